"""Lines of engines that hold what users wrote, as each engine writes them, and secrets."""

import pytest

from tocsin_exporter.tailing.privacy import MOST_CHARACTERS, holds_prompt, keepable

SAID = "my salary is 91,000"
PROMPTS = {
    "vLLM 0.6": "INFO 09-12 10:00:00 logger.py:36] Received request chat-7: "
    f"prompt: '{SAID}', params: SamplingParams(n=1)",
    "vLLM 0.9": "INFO 05-12 01:48:42 [logger.py:43] Received request chatcmpl-7: params: "
    f"SamplingParams(n=1), prompt_token_ids: None, prompt_embeds shape: None. {SAID}",
    "vLLM outputs": "INFO 05-12 01:48:42 [logger.py:57] Generated response chatcmpl-7: "
    f"output: '{SAID}'",
    "vLLM double quotes": f'INFO Received request cmpl-1: prompt: "{SAID}"',
    "SGLang": f"[2026-03-01 10:00:00] Receive: obj=GenerateReqInput(rid='7', text='{SAID}')",
    "SGLang finish": "[2026-03-01 10:00:00] Finish: obj=GenerateReqInput(rid='7'), "
    f"out={{'text': '{SAID}'}}",
    "llama.cpp": 'srv  log_server_r: request:  {"messages":[{"role":"user",'
    f'"content":"{SAID}"}}]}}',
    "llama.cpp old": f'{{"function":"launch","prompt":"{SAID}"}}',
    "llama.cpp response": f'srv  log_server_r: response: {{"content":"{SAID}"}}',
    "Ollama": f'time=t level=DEBUG msg="completion request" images=0 prompt="{SAID}"',
    "Ollama chat": 'time=t level=DEBUG source=routes.go:1 msg="chat request" prompt='
    f'"<|im_start|>user\\n{SAID}"',
    "TGI": f'{{"level":"DEBUG","message":"Input: x","inputs":"{SAID}"}}',
    "TGI generation": f"INFO HTTP request{{otel.name=POST}}:generate{{inputs=\"{SAID}\"}}: done",
    "LMDeploy": f"2026-03-01 - lmdeploy - INFO - session=1, input_tokens=9, prompt='{SAID}'",
    "LMDeploy messages": f"prompt=[{{'role': 'user', 'content': '{SAID}'}}]",
    "Triton": f'{{"text_input": "{SAID}", "max_tokens": 20}}',
    "FastAPI 422": "RequestValidationError: [{'type': 'missing', 'input': {'messages': "
    f"[{{'content': '{SAID}'}}]}}}}]",
    "OpenAI client": f"Request options: {{'json_data': {{'messages': [{{'content': '{SAID}'}}]}}}}",
    "escaped JSON": f'{{"msg":"{{\\"prompt\\":\\"{SAID}\\"}}"}}',
    "chat template": f"<|start_header_id|>user<|end_header_id|> {SAID}",
    "instruction": f"[INST] {SAID} [/INST]",
    "worker of our own": f'level=DEBUG msg=request body="{SAID}"',
}  # fmt: skip
HARMLESS = [
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79.15 GiB",
    "INFO 05-12 01:48:42 [loggers.py:116] Engine 000: Avg prompt throughput: 510.1 tokens/s",
    "prompt eval time =     120.31 ms /    12 tokens",
    "ERROR 05-12 01:48:42 [core.py:390] EngineCore encountered a fatal error.",
    '  File "/app/vllm/v1/engine/core.py", line 390, in execute_model',
    "NVRM: Xid (PCI:0000:00:05): 43, pid=1045242, name=pt_main_thread, Ch 00000008",
    "kernel: Out of memory: Killed process 123 (python3) total-vm:1024kB",
    "ValueError: No available memory for the cache blocks. Try increasing",
]


@pytest.mark.parametrize("engine", PROMPTS)
def test_lines_with_what_users_wrote(engine: str) -> None:
    assert holds_prompt(PROMPTS[engine].encode())


@pytest.mark.parametrize("line", HARMLESS)
def test_lines_that_may_be_kept(line: str) -> None:
    assert not holds_prompt(line.encode())
    assert keepable(line) == line.strip()


SECRET = "s3cr3t-Value-4711"


@pytest.mark.parametrize(
    "line",
    [
        f'INFO: 10.0.0.7:5 - "GET /v1/models?api_key={SECRET}&q=hello HTTP/1.1" 500',
        f"Authorization: Bearer {SECRET}",
        f"headers={{'authorization': 'Basic {SECRET}', 'x': 1}}",
        f"connecting to postgres://tocsin:{SECRET}@db:5432/x",
        f"args: ['--api-key', '{SECRET}', '--port', '8000']",
        f"vllm serve m --api-key {SECRET} --port 8000",
        f"HF_TOKEN={SECRET}",
        f"DB_PASS={SECRET}",
        f"passphrase: '{SECRET}'",
        f"sessionid={SECRET}",
        f'"password": "{SECRET}"',
        f'{{\\"client_secret\\": \\"{SECRET}\\"}}',
        f"token hf_{SECRET.replace('-', '')}",
        f"using sk-{SECRET}",
        f"eyJhbGciOiJI.{SECRET}.{SECRET}",
        f"POST https://api.telegram.org/bot12345678:{SECRET}AAAA/send",
        f"-----BEGIN PRIVATE KEY----- {SECRET}",
        f"Cookie: lang=en; session={SECRET}",
        f"headers={{'set-cookie': 'session={SECRET}; Path=/'}}",
        f"Authorization: ApiKey {SECRET}",
    ],
)
def test_secrets_are_masked(line: str) -> None:
    kept = keepable(line)
    assert SECRET not in kept and SECRET.replace("-", "") not in kept
    assert "<secret>" in kept


def test_what_is_kept_is_short_and_printable() -> None:
    assert keepable("\x1b[31mERROR\x1b[0m\tx\u202e\x00y ") == "ERROR xy"
    assert len(keepable("a b " * 1000)) == MOST_CHARACTERS
    assert keepable("mail to li@example.org failed") == "mail to <address> failed"

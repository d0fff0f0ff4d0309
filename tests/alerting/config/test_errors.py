"""What is wrong in a file is said all at once, each at its place, in words that help."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from tocsin_alerting.config.load import load
from tocsin_alerting.notify.registry import CHANNELS
from tocsin_alerting.yaml_document import InvalidDocument

MAIL = "{type: email, smarthost: localhost, from: a@example.com, to: [b@example.com]}"
HOOK = '{type: webhook, url: "http://127.0.0.1:9/"}'


def _problems(directory: Path, text: str, **env: str) -> list[str]:
    path = directory / "t.yml"
    path.write_text(text)
    with pytest.raises(InvalidDocument) as refused:
        load(path, env)
    return [str(one).removeprefix(f"{directory}/") for one in refused.value.problems]


CASES = {
    "unknown key": (
        "evaluation_intervall: 1s",
        't.yml:1:1: unknown key "evaluation_intervall"; did you mean "evaluation_interval"?',
    ),
    "unknown nested key": (
        "collect:\n  hots: 5s",
        't.yml:2:3: unknown key "collect.hots"; did you mean "host"?',
    ),
    "a meta-alert that is none": (
        "meta_alerts: {RuleBroke: {enabled: false}}",
        't.yml:1:15: unknown key "meta_alerts.RuleBroke"; did you mean "RuleBroken"?',
    ),
    "a severity that is none": (
        "meta_alerts: {TargetSilent: {severity: warning}}",
        "t.yml:1:40: meta_alerts.TargetSilent.severity: must be one of P0, P1, P2, P3, P4",
    ),
    "users among the engines": (
        "engines: {allow_users: [root]}",
        "t.yml:1:10: engines: a list of engines; to allow users, write discovery: ",
    ),
    "a key that had no effect": ("collect: {probes: 1s}", 'unknown key "collect.probes"'),
    "an interval of groups that is none": (
        "group: {interval: 0s}",
        "t.yml:1:19: group.interval: ",
    ),
    "one time that is too often": ("flap: {count: 1}", "t.yml:1:15: flap.count: "),
    "a hold that shrinks": ("flap: {multiplier: 0.5}", "t.yml:1:20: flap.multiplier: "),
    "a longest hold that is too short": (
        "flap: {hold: 2h}",
        "t.yml:1:7: flap: max is the longest hold; make it at least as long as hold",
    ),
    "a hold that is no time": ("policies: {P0: {resolve_hold: soon, steps: []}}", "resolve_hold"),
    "a digest of what is urgent": (
        "policies: {P1: {digest: 5m, steps: [{notify: [{receiver: log}]}]}}",
        "t.yml:1:25: P1 pages at once; remove the digest, or use it in P2 to P4",
    ),
    "buttons of somebody unknown": (
        "contacts: {wang: {email: w@example.com}}\nreceivers:\n  chat: {type: telegram, "
        "token_env: T, chat_id: -1, users: {7: wagn}}",
        't.yml:3:64: no contact is called "wagn"; did you mean "wang"?',
    ),
    "one unknown who confirms": (
        "contacts: {wang: {email: w@example.com}}\nreceivers:\n  push: {type: pushover, "
        "contact: wagn}",
        't.yml:3:35: no contact is called "wagn"; did you mean "wang"?',
    ),
    "a digest too often": (
        "policies: {P3: {digest: 5s, steps: [{notify: [{receiver: log}]}]}}",
        "policies.P3.digest: a digest comes once a minute at most; use 1m or more",
    ),
    "an engine of rules that is misspelt": (
        "datasource: {url: 'http://p:9090', offest: 1m}",
        't.yml:1:36: unknown key "datasource.offest"; did you mean "offset"?',
    ),
    "an engine of rules that is no URL": ("datasource: {url: prometheus:9090}", "datasource.url: "),
    "an engine of rules with two keys": (
        "datasource: {url: 'http://p', bearer_token_file: f, headers: {Authorization: x}}",
        "give one of bearer_token_file, basic_auth, Authorization in headers",
    ),
    "a key of an engine of rules that is not there": (
        "group_datasources: [{url: 'http://p', groups: [g], bearer_token_file: away}]",
        "t.yml:1:71: cannot read ",
    ),
    "the agent as an Alertmanager": (
        "alertmanagers: [{url: 'http://localhost:4911'}]",
        "t.yml:1:17: the URL: this is the agent's own address",
    ),
    "a protocol of samples that nobody speaks": (
        "remote_write: [{url: 'http://p/api/v1/write', protocol: 3}]",
        "must be 1 or 2, for remote write 1.0 or 2.0",
    ),
    "the agent as a receiver of its samples": (
        "remote_write: [{url: 'http://127.0.0.1:4911/api/v1/write'}]",
        "t.yml:1:16: the URL: this is the agent's own address",
    ),
    "an engine for no group in particular": (
        "group_datasources: [{url: embedded}]",
        "name the groups or the files that it is for; datasource is for all",
    ),
    "a storm of less than none": ("storm: {incidents: -1}", "storm.incidents: "),
    "a retention that is none": ("incidents: {retention: 0d}", "incidents.retention: "),
    "an ack that is kept perhaps": ("reopen_keeps_ack: maybe", "t.yml:1:19: reopen_keeps_ack: "),
    "engines that are never read": (
        'collect: {engines: 0s}\nengines: [{url: "http://a:1"}]',
        "t.yml:1:20: 0s turns engines off, and engines lists some",
    ),
    "the end of a time that does not run": (
        "policies: {P0: {ack: {on_timeout: next}, steps: [{notify: [{receiver: log}]}]}}",
        "t.yml:1:35: on_timeout has no effect without timeout",
    ),
    "more alerts than a message carries": (
        f"receivers: {{hook: {HOOK[:-1]}, max_alerts: 101}}}}",
        "receivers.hook.max_alerts: 101 is too many: a message has at most 100 alerts",
    ),
    "a pack that there is not": (
        "rule_files: [bundled, bundled/vlm]",
        "t.yml:1:23: there is no pack bundled/vlm; there are bundled, bundled/llamacpp, "
        'bundled/sglang, bundled/vllm; did you mean "bundled/vllm"?',
    ),
    "a list that is none": ("rule_files: bundled", "t.yml:1:13: rule_files: must be a list"),
    "a mapping that is none": ("web: 5", "t.yml:1:6: web: must be a mapping"),
    "a section without content": ("contacts:", "t.yml:1:10: contacts: must be a mapping"),
    "a PromQL of nobody": (
        "promql: {semantics: 4}",
        "t.yml:1:21: promql.semantics: must be 3, for the PromQL of Prometheus 3, or 2",
    ),
    "an entry that is no mapping": ("engines: [5]", "t.yml:1:11: engines.0: must be a mapping"),
    "a document that is no mapping": ("- a", "t.yml:1:1: must be a mapping"),
    "a number for text": ("rule_files: [5]", "rule_files.0: must be text; quote it"),
    "a list for text": ("external_url: [a]", "external_url: must be text"),
    "text for a number": ("worker: {port: '1'}", "worker.port: must be a whole number"),
    "a fraction": ("worker: {port: 1.5}", "worker.port: must be a whole number"),
    "text for a truth value": ("worker: {enabled: yes}", "enabled: must be true or false"),
    "a number that is too small": (
        "worker: {restart: {max: -1}}",
        "t.yml:1:25: worker.restart.max: must be at least 0",
    ),
    "nothing for text": ("storage: {path: ''}", "storage.path: must not be empty"),
    "a number for a path": ("web: {token_file: 5}", "web.token_file: must be the path of a file"),
    "a type that is a list": ("receivers: {a: {type: [log]}}", "no channel is called \"['log']\""),
    "unknown key of a receiver": (
        "receivers:\n  m: {type: webhook, url: 'http://h/', timeot: 5s}",
        'unknown key "receivers.m.timeot"; did you mean "timeout"?',
    ),
    "a key that only another type has": (
        "receivers:\n  hook: {type: webhook, url: 'http://h/', password: hunter2}",
        't.yml:2:43: unknown key "receivers.hook.password"',
    ),
    "no label name": ("group: {by: [a b]}", 't.yml:1:14: group.by.0: "a b" is no label name'),
    "no label name in a route": ("routes: [{group_by: ['1']}]", '"1" is no label name'),
    "no label name in a rule of silence": (
        "inhibit: [{source: ['a=b'], target: ['a=c'], equal: [a-b]}]",
        '"a-b" is no label name',
    ),
    "unknown key of a step": (
        "policies:\n  P0:\n    steps:\n    - {notify: [{receiver: log}], escalate: 5m}",
        't.yml:4:35: unknown key "policies.P0.steps.0.escalate"; did you mean "escalate_after"?',
    ),
    "a number for a duration": ("evaluation_interval: 5", "t.yml:1:22: evaluation_interval: not a"),
    "units out of order": ("reopen_within: 5s1m", "t.yml:1:16: reopen_within: not a duration"),
    "nothing": ("evaluation_interval: 0s", "evaluation_interval: must be longer than 0s"),
    "unknown receiver": (
        "policies:\n  P0:\n    steps: [{notify: [{receiver: lgo}]}]",
        't.yml:3:34: no receiver is called "lgo"; did you mean "log"?',
    ),
    "unknown fallback": (
        "receivers:\n  a: {type: log, fallback: bb}\n  b: {type: log}",
        't.yml:2:28: no receiver is called "bb"; did you mean "b"?',
    ),
    "a list for a chat": (
        "receivers:\n  a: {type: telegram, chat_id: [1]}",
        "t.yml:2:32: receivers.a.chat_id: chat_id is a number like -1001234567890, or @name",
    ),
    "fallbacks in a circle": (
        "receivers:\n  a: {type: log, fallback: b}\n  b: {type: log, fallback: c}\n"
        "  c: {type: log, fallback: b}",
        "t.yml:3:28: the fallbacks lead round in a circle: b -> c -> b; the last one must have",
    ),
    "its own fallback": (
        "receivers:\n  a: {type: log, fallback: a}",
        "t.yml:2:28: the fallbacks lead round in a circle: a -> a; the last one must have none",
    ),
    "a fallback to nobody": (
        f"receivers:\n  a: {{type: log, fallback: n}}\n  m: {MAIL}\n"
        "  n: {type: email, from: a@b.c, smarthost: h}",
        't.yml:2:28: receiver "n" has no "to" of its own; add it or name another one',
    ),
    "no rate": (
        "receivers:\n  a: {type: log, rate: 20/fortnight}",
        "t.yml:2:24: receivers.a.rate: not a rate; write it like 20/min, 5/15m or 100/h",
    ),
    "a rate of an unknown way": (
        f"contacts: {{li: {{email: w@x.y}}}}\nreceivers: {{m: {MAIL}}}\n"
        "rate_limits: {per_contact: {emial: 1/1m}}",
        't.yml:3:36: no contact has a way called "emial"; did you mean "email"?',
    ),
    "unknown receiver in final": (
        "policies:\n  P0:\n    steps: [{notify: [{receiver: log}], escalate_after: 1m}]\n"
        "    final: {notify: [{receiver: x}], every: 1m, for: 1h}",
        't.yml:4:33: no receiver is called "x"',
    ),
    "unknown receiver in a route": (
        "routes: [{receivers_add: [lg]}]",
        't.yml:1:27: no receiver is called "lg"; did you mean "log"?',
    ),
    "unknown contact": (
        f"contacts: {{wang: {{email: w@x.y}}}}\nreceivers: {{m: {MAIL}}}\npolicies:\n  P0:\n"
        "    steps: [{notify: [{contact: wagn, via: [email]}]}]",
        't.yml:5:33: no contact is called "wagn"; did you mean "wang"?',
    ),
    "contact without a mail receiver": (
        "contacts: {li: {email: l@x.y}}\npolicies:\n  P0:\n"
        "    steps: [{notify: [{contact: li, via: [email]}]}]",
        "t.yml:4:42: no mail can be sent to li: no receiver of type email, no section smtp, and",
    ),
    "a contact and no way to reach it": (
        "contacts: {li: {email: l@x.y}}",
        "t.yml:1:11: no mail can be sent to li: ",
    ),
    "a mail server that writes to nobody": (
        "receivers: {m: {type: email, smarthost: localhost, from: a@example.com}}",
        't.yml:1:16: receiver "m" has no "to" and there are no contacts',
    ),
    "unknown key of smtp": (
        "smtp: {smarthots: localhost}",
        't.yml:1:8: unknown key "smtp.smarthots"; did you mean "smarthost"?',
    ),
    "a secret in smtp": (
        "smtp: {smarthost: 'h:25', username: a, password: hunter2}",
        "t.yml:1:50: smtp.password: a secret has no place in this file",
    ),
    "a secret of smtp that is not there": (
        "contacts: {li: {email: l@x.y}}\nsmtp: {smarthost: 'h:25', username: a, password_env: NO}",
        "t.yml:2:54: environment variable NO is not set",
    ),
    "everyone of nobody": (
        f"receivers: {{m: {MAIL}}}\npolicies:\n  P0:\n"
        "    steps: [{notify: [{everyone: true, via: [email]}]}]",
        "t.yml:4:34: contacts is empty",
    ),
    "a contact that there is not": (
        "policies: {P0: {steps: [{notify: [{contact: li}]}]}}",
        'no contact is called "li"',
    ),
    "two at once": (
        "policies: {P0: {steps: [{notify: [{contact: li, receiver: log}]}]}}",
        "name exactly one of receiver, contact, schedule and everyone",
    ),
    "a receiver without addressees": (
        "receivers: {m: {type: email, smarthost: h, from: a@x.y}}\n"
        "policies: {P0: {steps: [{notify: [{receiver: m}]}]}}",
        't.yml:2:46: receiver "m" has no "to" of its own',
    ),
    "unknown policy": (
        "routes: [{match: ['a=\"b\"'], policy: P00}, {}]",
        't.yml:1:37: no policy is called "P00"; did you mean "P0"?',
    ),
    "the last route": (
        "routes:\n- {match: ['a=\"b\"'], policy: P1}",
        "t.yml:2:11: the last route must match everything",
    ),
    "a bad matcher": (
        "routes: [{match: ['severity~P0']}, {}]",
        't.yml:1:19: routes.0.match.0: matcher severity~P0: write it as name="value"',
    ),
    "severity in group": ("group: {by: [a, severity]}", "t.yml:1:17: cannot group by severity"),
    "severity in a route's group": (
        "routes: [{group_by: [severity]}]",
        "t.yml:1:22: cannot group by severity",
    ),
    "a repeat without a time": (
        "policies: {P0: {repeat: 1, steps: [{notify: [{receiver: log}]}]}}",
        "t.yml:1:36: this step needs escalate_after, for it is repeated",
    ),
    "a step that nothing leads to": (
        "policies:\n  P0:\n    steps:\n    - {notify: [{receiver: log}]}\n"
        "    - {notify: [{receiver: log}]}",
        "t.yml:4:7: this step needs escalate_after, for a step follows it",
    ),
    "no steps": ("policies: {P0: {steps: []}}", "t.yml:1:24: policies.P0.steps: must not be empty"),
    "unknown type": (
        "receivers:\n  m: {type: emial}",
        f't.yml:2:13: no channel is called "emial", only {", ".join(CHANNELS)}; '
        'did you mean "email"?',
    ),
    "no type": ("receivers: {m: {url: x}}", "t.yml:1:16: a receiver needs a type"),
    "a password": (
        f"receivers:\n  m: {MAIL[:-1]}, username: a, password: hunter2}}",
        "with password_file, or name an environment variable with password_env",
    ),
    "a token": (
        f"receivers:\n  m: {HOOK[:-1]}, bearer_token: hunter2}}",
        "with bearer_token_file",
    ),
    "a signing secret": (f"receivers:\n  m: {HOOK[:-1]}, secret: hunter2}}", "with secret_file"),
    "an apprise URL": ("receivers: {m: {type: apprise, url: 'x://hunter2'}}", "with url_file"),
    "a username alone": (
        f"receivers:\n  m: {MAIL[:-1]}, username: a}}",
        "username goes with exactly one of password_file and password_env",
    ),
    "a password in the clear": (
        "receivers:\n  m: {type: email, smarthost: mail.example.com, from: a@x.y, tls: none, "
        "username: a, password_env: PW}",
        "tls: none would send the password in the clear",
    ),
    "a missing secret file": (
        f"receivers:\n  m: {HOOK[:-1]}, secret_file: none}}",
        "t.yml:2:63: cannot read ",
    ),
    "a missing header file": (
        f"receivers:\n  m: {HOOK[:-1]}, header_files: {{X-Key: none}}}}",
        "t.yml:2:72: cannot read ",
    ),
    "an empty variable": (
        f"receivers:\n  m: {HOOK[:-1]}, bearer_token_env: EMPTY}}",
        "environment variable EMPTY is not set or is empty",
    ),
    "a secret of another form": (
        f"receivers:\n  m: {HOOK[:-1]}, secret_env: PW}}",
        "t.yml:2:6: m: a signing secret is whsec_",
    ),
    "a ca file without a certificate": (
        f"receivers:\n  m: {HOOK[:-1]}, ca_file: t.yml}}",
        "t.yml:2:6: m: ",
    ),
    "a missing ca file": (
        f"receivers:\n  m: {HOOK[:-1]}, ca_file: none}}",
        "t.yml:2:59: cannot read ",
    ),
    "a missing token": ("web: {token_file: none}", "t.yml:1:19: cannot read "),
    "a missing rule file": ("rule_files: [x.yml]", "t.yml:1:14: there is no file x.yml"),
    "a directory for a rule file": ("rule_files: [.]", "t.yml:1:14: . is a directory, a pipe"),
    "an address": ("contacts: {li: {email: li}}", "'li' is not an address like li@example.com"),
    "a smarthost": (
        "receivers: {m: {type: email, smarthost: 'h:x', from: a@x.y}}",
        "port 'x' is not a number",
    ),
    "a listen address": ("web: {listen_address: 4911}", "t.yml:1:23: web.listen_address:"),
    "a port": ("worker: {port: 99999}", "t.yml:1:16: worker.port: must be at most 65535"),
    "an engine": ("engines: [{url: 127.0.0.1}]", "t.yml:1:17: engines.0.url: not a URL like"),
    "fragment": (
        'engines: [{url: "http://h:1/#k"}]',
        "t.yml:1:17: engines.0.url: a server never",
    ),
    "a fragment of ours": (
        'external_url: "http://h/#k"',
        "t.yml:1:15: external_url: a server never",
    ),
    "an engine twice": (
        "engines: [{url: 'http://h:1'}, {url: 'http://h:1'}]",
        "t.yml:1:38: h:1 is listed twice",
    ),
    "an engine twice, written otherwise": (
        "engines: [{url: 'http://h:80/a'}, {url: 'http://H/a/'}]",
        "t.yml:1:41: h:80/a is listed twice",
    ),
    "an engine twice, by another name of this machine": (
        "engines: [{url: 'http://localhost:1/a'}, {url: 'http://127.1:1/a/'}]",
        "t.yml:1:48: 127.1:1/a is listed twice: it is localhost:1/a in another form; remove one",
    ),
    "two models behind one address": (
        "engines: [{url: 'http://h:1', params: {model: a}}, {url: 'http://h:1'}]",
        "t.yml:1:58: h:1 is listed twice; remove one (params do not tell two models apart",
    ),
    "an engine's key in the file": (
        "engines: [{url: 'http://h:1', bearer_token: k}]",
        "t.yml:1:45: engines.0.bearer_token: a secret has no place in this file",
    ),
    "an engine's key that is not there": (
        "engines: [{url: 'http://h:1', bearer_token_file: gone}]",
        "t.yml:1:50: cannot read",
    ),
    "an engine's authority that is not there": (
        "engines: [{url: 'https://h:1', tls: {ca_file: gone}}]",
        "t.yml:1:47: cannot read",
    ),
    "an engine's header": (
        "engines: [{url: 'http://h:1', headers: {'a b': x}}]",
        "not a header that can be set; remove it",
    ),
    "an engine's two keys": (
        "engines: [{url: 'http://h:1', headers: {authorization: x}, basic_auth: {username: u}}]",
        "give one of bearer_token_file, basic_auth, Authorization in headers",
    ),
    "an engine's path": (
        "engines: [{url: 'http://h:1', metrics_path: metrics}]",
        "t.yml:1:45: engines.0.metrics_path: not a path like /metrics",
    ),
    "an engine's key, misspelt": (
        "engines: [{url: 'http://h:1', metric_path: /m}]",
        'unknown key "engines.0.metric_path"; did you mean "metrics_path"?',
    ),
    "a process": ("processes: [{name: a, comm: b, exe: c}]", "exactly one of comm, exe and"),
    "a process's pattern": (
        "processes: [{name: a, cmdline: '('}]",
        "t.yml:1:32: processes.0.cmdline: not a regular expression",
    ),
    "a process twice": (
        "processes: [{name: a, comm: b}, {name: a, comm: c}]",
        'two process groups are called "a"',
    ),
    "a log, two ways": (
        "logs: [{name: a, paths: [/x], journald: {kernel: true}}]",
        "t.yml:1:8: logs.0: give exactly one of paths, containers and journald",
    ),
    "a log twice": (
        "logs: [{name: a, paths: [/x]}, {name: a, paths: [/y]}]",
        "two sources have the name a",
    ),
    "a log's name": ("logs: [{name: ../a, paths: [/x]}]", "'../a' is no name"),
    "a log's path": ("logs: [{name: a, paths: [x.log]}]", "'x.log' is no whole path"),
    "a log's pattern": (
        "logs: [{name: a, paths: [/x], patterns: [cuda_om]}]",
        "there is no pattern cuda_om; did you mean cuda_oom?",
    ),
    "a pattern of one's own": (
        "logs: [{name: a, paths: [/x], own_patterns: {b: '(?=x)'}}]",
        "t.yml:1:45: logs.0.own_patterns: b: not a regular expression of RE2: invalid perl",
    ),
    "a pattern that matches every line": (
        "logs: [{name: a, paths: [/x], own_patterns: {b: 'x*'}}]",
        "b: it matches an empty line",
    ),
    "a pattern's name": (
        "logs: [{name: a, paths: [/x], own_patterns: {cuda_oom: 'x'}}]",
        "cuda_oom is the name of a bundled pattern",
    ),
    "a log's level": (
        "logs: [{name: a, paths: [/x], level: 'x'}]",
        "logs.0.level: has no group (?P<level>...)",
    ),
    "a journal of nothing": (
        "logs: [{name: a, journald: {}}]",
        "give units, kernel: true, or both",
    ),
    "a unit": ("logs: [{name: a, journald: {units: ['*']}}]", "'*' is no name of a unit"),
    "no containers": ("logs: [{name: a, containers: {}}]", "give names or pods"),
    "a pod": ("logs: [{name: a, containers: {pods: [x]}}]", "'x' is not NAMESPACE/POD/CONTAINER"),
    "a log's budget": (
        "logs: [{name: a, paths: [/x], limits: {lines: 1}}]",
        "logs.0.limits.lines: must be at least 10",
    ),
    "a log's key, misspelt": (
        "logs: [{name: a, path: [/x]}]",
        'unknown key "logs.0.path"; did you mean "paths"?',
    ),
    "a time zone": (
        "time_zone: Mars",
        't.yml:1:12: time_zone: no time zone is called "Mars"; write it like',
    ),
    "a path as a time zone": ("time_zone: ../../etc/passwd", "no time zone is called"),
    "a language": ("language: fr", "t.yml:1:11: language: must be 'en' or 'zh'"),
    "a severity": (
        "severities: {page: P9}",
        "t.yml:1:20: severities.page: must be one of P0, P1, P2, P3, P4",
    ),
    "a contact without a name": (
        'contacts:\n  li: {email: l@example.com}\n  "": {email: n@example.com}',
        "t.yml:3:3: contacts: a name must not be empty; write one",
    ),
    "a contact nobody can read": (
        'contacts: {"li \\u202e": {email: l@example.com}}',
        't.yml:1:12: contacts: "li \\u202e" has characters nobody sees; leave them out',
    ),
    "a way drawn as nothing": (
        f"receivers: {{h: {HOOK}}}\ncontacts: {{li: {{ways: {{\u3164: h}}}}}}",
        't.yml:2:24: contacts: "\\u3164" has characters nobody sees',
    ),
    "a receiver with a tab": (
        'receivers: {"a\\tb": {type: log}}',
        't.yml:1:13: receivers: "a\\u0009b" has characters nobody sees',
    ),
    "a schedule that begins with a blank": (
        'contacts: {li: {email: l@example.com}}\nschedules: {" s": {rotation: {type: daily, at:'
        ' "00:00", start: 2026-01-05, members: [li]}}}',
        't.yml:2:13: schedules: " s" begins or ends with a blank; leave it out',
    ),
    "a policy that ends with a blank": (
        'policies: {"q ": {steps: [{notify: [{receiver: log}]}]}}',
        't.yml:1:12: policies: "q " begins or ends with a blank; leave it out',
    ),
    "a version": ("version: 2", "t.yml:1:10: version: must be 1"),
    "a list": ("- a", "t.yml:1:1: "),
    "a word": ("hello", "t.yml:1:1: "),
    "not YAML": ("a: [", "t.yml:"),
    "a key twice": ("version: 1\nversion: 1", 't.yml:2:1: key "version" is defined twice'),
}


@pytest.mark.parametrize("name", CASES)
def test_each_error_at_its_place(tmp_path: Path, name: str) -> None:
    text, expected = CASES[name]
    problems = _problems(tmp_path, text, PW="hunter2")
    assert [one for one in problems if expected in one], problems
    assert "hunter2" not in "\n".join(problems)
    assert len(problems) <= 2


def test_a_missing_password_of_the_mail_server_is_said_once(tmp_path: Path) -> None:
    problems = _problems(
        tmp_path,
        "contacts: {me: {email: me@x.y}}\n"
        "smtp: {smarthost: 'h:587', from: me@x.y, username: me, password_file: none}",
    )
    assert [one.partition(": ")[0] for one in problems] == ["t.yml:2:71"], problems


def test_all_errors_come_together(tmp_path: Path) -> None:
    text = """
langauge: en
evaluation_interval: 5
receivers:
  m: {type: emial}
  h: {type: webhook, url: ftp, secret_file: none}
policies:
  P0: {steps: [{notify: [{receiver: x}]}], repeat: 1}
routes: [{match: ['a=b'], policy: Q}]
group: {by: [severity]}
"""
    problems = _problems(tmp_path, text)
    lines = sorted({int(one.split(":")[1]) for one in problems})
    assert lines == [2, 3, 5, 6, 8, 9, 10]
    assert sum(one.startswith("t.yml:6") for one in problems) == 2
    assert sum(one.startswith("t.yml:8") for one in problems) == 2
    assert sum(one.startswith("t.yml:9") for one in problems) == 2


SCRAPS = strategies.recursive(
    strategies.sampled_from([None, True, 1, -1.5, "", "log", "P0", "5s", "a=b", "x@y.z", "email"]),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(
            strategies.sampled_from(
                "receivers policies routes group by steps notify receiver contact contacts via "
                "type to match policy repeat final P0 log email web engines url name".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(SCRAPS)
def test_no_file_breaks_the_loader(tmp_path: Path, scrap: object) -> None:
    import yaml

    path = tmp_path / "t.yml"
    path.write_text(yaml.safe_dump(scrap))
    try:
        load(path, {})
    except InvalidDocument as refused:
        assert all(one.file == str(path) and one.line > 0 for one in refused.problems)
        assert "Input should" not in str(refused)


def test_neither_the_refused_word_nor_another_type_s_key_is_suggested(tmp_path: Path) -> None:
    hook = "receivers: {hook: {type: webhook, url: 'http://h/', password: hunter2, smarthos: h}}"
    told = _problems(tmp_path, hook)
    assert [one.partition(": ")[2] for one in told] == [
        'unknown key "receivers.hook.password"',
        'unknown key "receivers.hook.smarthos"',
    ]
    mail = "receivers: {m: {type: email, smarthos: h, from: a@b.c}}"
    assert 'did you mean "smarthost"?' in "".join(_problems(tmp_path, mail))


def test_every_label_is_a_way_to_group(tmp_path: Path) -> None:
    (tmp_path / "t.yml").write_text("group: {by: [...]}")
    assert load(tmp_path / "t.yml").group.by == ("...",)

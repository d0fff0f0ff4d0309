"""What the worker says about itself: health, statistics, the model, metrics, documentation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import torch
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST

from tocsin_inference import memory, reference
from tocsin_inference.errors import EngineStopped, NotFound, shown
from tocsin_inference.responses import JsonResponse
from tocsin_inference.worker import Worker

router = APIRouter()
_GIB = float(1 << 30)


@router.get("/health", summary="Whether the worker can answer")
async def health(request: Request) -> Response:
    """200 while the engine accepts requests, 503 once it has died."""
    worker: Worker = request.app.state.worker
    alive = worker.engine.alive
    body = {
        "status": "healthy" if alive else "unhealthy",
        "timestamp": datetime.fromtimestamp(request.app.state.wall(), UTC).isoformat(),
        "model_loaded": alive,
        "gpu_available": torch.cuda.is_available(),
        "memory_usage": memory.machine(worker.model.device),
        "uptime_seconds": worker.clock() - worker.started,
    }
    if alive:
        return JsonResponse(body)
    return JsonResponse(
        body, status_code=503, headers={"retry-after": str(EngineStopped.retry_after)}
    )


@router.get("/stats", summary="Requests and resources since the start")
async def stats(request: Request) -> Response:
    """`average_response_time` is of successful requests, in seconds; `model_memory_usage` in GiB of
    weights and KV cache; `gpu_utilization` in percent, null without a GPU."""
    worker: Worker = request.app.state.worker
    ended = worker.metrics.ended
    good = ended["success"]
    failed = ended["error"] + ended["timeout"]  # what was rejected is the client's to mend
    size = worker.model.weight_bytes() + worker.engine.cache_bytes()
    body = {
        "total_requests": sum(ended.values()) + worker.metrics.open,
        "successful_requests": good,
        "failed_requests": failed,
        "average_response_time": worker.metrics.seconds_of_success / good if good else 0.0,
        "model_memory_usage": round(size / _GIB, 3),
        "gpu_utilization": gpu_utilization(worker.model.device),
        "uptime_hours": (worker.clock() - worker.started) / 3600,
    }
    return JsonResponse(body)


@router.get("/model_info", summary="The model that is served")
async def model_info(request: Request) -> Response:
    """Sizes in tokens and bytes."""
    worker: Worker = request.app.state.worker
    model, engine = worker.model, worker.engine
    body = {
        "model_name": model.name,
        "model_type": model.kind,
        "quantization": model.quantization,
        "converted_from": model.source.converted_from,
        "device": str(model.device),
        "dtype": str(model.network.dtype).removeprefix("torch."),
        "parameters": model.network.num_parameters(),
        "weight_bytes": model.weight_bytes(),
        "vocabulary_size": model.vocabulary,
        "context_length": model.context,
        "longest_request": engine.longest,
        "kv_cache_tokens": engine.cache_tokens,
    }
    return JsonResponse(body)


@router.get("/v1/models", summary="The models that can be named in a request")
async def models(request: Request) -> Response:
    """The OpenAI list, of one."""
    return JsonResponse({"object": "list", "data": [described(request)]})


@router.get("/v1/models/{name:path}", summary="One model")
async def one_model(request: Request, name: str) -> Response:
    """Its entry of the list. Raises NotFound for any other name."""
    worker: Worker = request.app.state.worker
    if name != worker.model.name:
        raise NotFound(f"no model {shown(name)} here, only {worker.model.name!r}", "model")
    return JsonResponse(described(request))


def described(request: Request) -> dict[str, Any]:
    """The served model as OpenAI's model object."""
    worker: Worker = request.app.state.worker
    return {
        "id": worker.model.name,
        "object": "model",
        "created": request.app.state.born,
        "owned_by": "tocsin",
        "max_model_len": worker.engine.longest,
    }


@router.get("/metrics", summary="Metrics for Prometheus")
async def metrics(request: Request) -> Response:
    """Text exposition, format 0.0.4."""
    worker: Worker = request.app.state.worker
    return Response(worker.metrics.page(), media_type=CONTENT_TYPE_LATEST)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The API on one page that needs no network."""
    return HTMLResponse(reference.page(request.app.openapi()))


def gpu_utilization(device: torch.device) -> float | None:
    """Percent over the last sampling period; None where there is no GPU or NVML does not say."""
    if device.type != "cuda":
        return None
    try:
        return float(torch.cuda.utilization(device))
    except (ModuleNotFoundError, RuntimeError):
        return None

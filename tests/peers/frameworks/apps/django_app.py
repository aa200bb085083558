"""The routes that all applications here have, by Django: one project, behind WSGI and behind ASGI."""

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Iterator

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path, reverse

settings.configure(
    DEBUG=False,
    SECRET_KEY="not a secret",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    LOGGING_CONFIG=None,
)
django.setup()

go_thread = threading.Event()
go_task = asyncio.Event()


def item(request: HttpRequest, number: int) -> HttpResponse:
    link = reverse("item", kwargs={"number": number})
    response = JsonResponse(
        {
            "number": number,
            "q": request.GET["q"],
            "tag": request.headers["X-Tag"],
            "cookie": request.COOKIES["who"],
            "link": link,
            "absolute": request.build_absolute_uri(link),
        }
    )
    response.set_cookie("seen", str(number))
    return response


def form(request: HttpRequest) -> HttpResponse:
    return JsonResponse(request.POST.dict())


def echo_json(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"got": json.loads(request.body)})


def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES["f"]
    content = file.read()
    return JsonResponse({"name": file.name, "size": len(content), "md5": hashlib.md5(content).hexdigest()})


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def pieces() -> Iterator[str]:
        yield "first,"
        go_thread.wait(60)
        yield "second"

    async def async_pieces() -> AsyncIterator[str]:
        yield "first,"
        await go_task.wait()
        yield "second"

    go_thread.clear()
    go_task.clear()
    content = async_pieces() if isinstance(request, ASGIRequest) else pieces()
    return StreamingHttpResponse(content, content_type="text/plain")


async def let_go(request: HttpRequest) -> HttpResponse:
    go_thread.set()
    go_task.set()
    return HttpResponse("gone")


def fail(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("this view is broken")


urlpatterns = [
    path("items/<int:number>", item, name="item"),
    path("form", form),
    path("json", echo_json),
    path("upload", upload),
    path("stream", stream),
    path("go", let_go),
    path("fail", fail),
]

wsgi = get_wsgi_application()
asgi = get_asgi_application()

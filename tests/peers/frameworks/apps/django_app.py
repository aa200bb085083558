"""The contract of `rows.py` by Django, one project behind WSGI and behind ASGI; its admin site; WebSockets by
Channels. `python django_app.py` makes its database.
"""

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse

settings.configure(
    DEBUG=False,
    SECRET_KEY="not a secret",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    LOGGING_CONFIG=None,
    STATIC_URL="/static/",
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "django.sqlite"},
        "lasting": {"ENGINE": "django.db.backends.sqlite3", "NAME": "django.sqlite", "CONN_MAX_AGE": None},
    },
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # the others take their time
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    INSTALLED_APPS=[
        f"django.contrib.{name}"
        for name in ("admin", "auth", "contenttypes", "sessions", "messages", "staticfiles")
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
)
django.setup()

# These take the settings.
from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.exceptions import DenyConnection  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.contrib import admin  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402

go_thread = threading.Event()
go_task = asyncio.Event()
closed = asyncio.Event()
codes: list[int] = []
both = threading.Barrier(2)


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


@csrf_exempt
def form(request: HttpRequest) -> HttpResponse:
    return JsonResponse(request.POST.dict())


@csrf_exempt
async def echo_json(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"got": json.loads(request.body)})


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES["f"]
    sha256 = hashlib.sha256()
    for piece in file.chunks():
        sha256.update(piece)
    return JsonResponse({"name": file.name, "size": file.size, "sha256": sha256.hexdigest()})


@csrf_exempt
def log_in(request: HttpRequest) -> HttpResponse:
    request.session["name"] = request.POST["name"]
    response = redirect("whoami")
    response.status_code = 303
    return response


def who_am_i(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"name": request.session.get("name")})


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


def uses(request: HttpRequest) -> HttpResponse:
    """How many requests the connection to the database has served that serves this one."""
    with connections["lasting"].cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE IF NOT EXISTS uses (number INTEGER PRIMARY KEY)")
        cursor.execute("INSERT INTO uses DEFAULT VALUES")
        return JsonResponse({"uses": cursor.lastrowid})


def fail(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("this view is broken")


def together(request: HttpRequest) -> HttpResponse:
    """Answers only when two requests are here at the same time."""
    both.wait(60)
    return JsonResponse({"main": threading.current_thread() is threading.main_thread()})


async def together_async(request: HttpRequest) -> HttpResponse:
    """The same on one loop: the second request lets the first go on."""
    if (waiting := waiting_views.pop("first", None)) is None:
        waiting = waiting_views["first"] = asyncio.Event()
        await waiting.wait()
    waiting.set()
    return JsonResponse({"main": threading.current_thread() is threading.main_thread()})


waiting_views: dict[str, asyncio.Event] = {}


async def show_closed(request: HttpRequest) -> HttpResponse:
    await closed.wait()
    return JsonResponse({"code": codes[-1]})


class Echo(AsyncWebsocketConsumer):
    """Says back what it gets."""

    async def connect(self) -> None:
        closed.clear()
        await self.accept(self.scope["subprotocols"][0])

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "bye":
            await self.close(4001, "it said bye")
        else:
            await self.send(text_data, bytes_data)

    async def disconnect(self, code: int) -> None:
        codes.append(code)
        closed.set()


class Refuse(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        raise DenyConnection


class Room(AsyncWebsocketConsumer):
    """What one of those who are logged in says, all others in the room hear."""

    async def connect(self) -> None:
        if not self.scope["user"].is_authenticated:
            raise DenyConnection
        await self.channel_layer.group_add("room", self.channel_name)
        await self.accept()
        await self.send(f"welcome {self.scope['user'].username}")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        text = f"{self.scope['user'].username}: {text_data}"
        await self.channel_layer.group_send("room", {"type": "said", "text": text})

    async def said(self, event: dict[str, Any]) -> None:
        await self.send(event["text"])

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("room", self.channel_name)


urlpatterns = [
    path("items/<int:number>", item, name="item"),
    path("form", form),
    path("json", echo_json),
    path("upload", upload),
    path("login", log_in),
    path("whoami", who_am_i, name="whoami"),
    path("stream", stream),
    path("go", let_go),
    path("fail", fail),
    path("uses", uses),
    path("together", together),
    path("together/async", together_async),
    path("closed", show_closed),
    path("admin/", admin.site.urls),
]

wsgi = get_wsgi_application()
asgi = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AuthMiddlewareStack(
            URLRouter(
                [
                    path("echo", Echo.as_asgi()),
                    path("refuse", Refuse.as_asgi()),
                    path("room", Room.as_asgi()),
                ]
            )
        ),
    }
)

if __name__ == "__main__":
    from django.contrib.auth.models import User

    call_command("migrate", verbosity=0)
    User.objects.create_superuser("ann", "ann@example.com", "secret")

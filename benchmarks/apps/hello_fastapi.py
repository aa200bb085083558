"""The smallest FastAPI application."""

from fastapi import FastAPI

app = FastAPI(openapi_url=None)


@app.get("/")
async def hello() -> dict[str, str]:
    """Answer in JSON."""
    return {"message": "Hello, world!"}

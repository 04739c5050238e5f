"""The client: its own rows, and all else as the library's apps have it."""

from chat import task
from chat.run_config import RunConfig
from hsplit_flower.runs import client_app

app = client_app(task, RunConfig)

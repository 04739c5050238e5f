"""The client: its own examples, and all else as the library's apps have it."""

from hsplit_flower.runs import client_app
from nlg import task
from nlg.run_config import RunConfig

app = client_app(task, RunConfig)

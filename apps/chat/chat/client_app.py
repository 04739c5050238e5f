"""The client: its own rows, and functions of hsplit_flower."""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from chat import task
from chat.run_config import RunConfig
from hsplit_flower.client.app import describe_device, errors_as_replies, personal_steps
from hsplit_flower.runs import evaluate_part, round_of, train_part

app = ClientApp(mods=[errors_as_replies])


@app.query()
def query(msg: Message, context: Context) -> Message:
    """Say what this device has, and on how many rows it trains."""
    config = RunConfig.from_run_config(context.run_config)
    num_steps = task.num_steps(config, context)
    return describe_device(msg, context, task.num_examples(config, context), num_steps=num_steps)


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train this client's part of the model for one round."""
    config = RunConfig.from_run_config(context.run_config)
    steps = personal_steps(msg) or task.num_steps(config, context)
    batches = task.training_batches(config, context, round_of(msg, config), num_steps=steps)
    return train_part(msg, context, config, batches)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Evaluate the global model on this client's held-out rows."""
    config = RunConfig.from_run_config(context.run_config)
    return evaluate_part(msg, context, config, task.evaluation_batches(config, context))

"""The client: loads the factors that it is sent, trains them, sends them back."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from peft import get_peft_model_state_dict, set_peft_model_state_dict

from federated_lora import task

app = ClientApp()


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train the whole model's adapter on this client's examples."""
    torch.set_num_threads(1)
    config = context.run_config
    model = task.get_model(config)
    set_peft_model_state_dict(model, msg.content["arrays"].to_torch_state_dict())
    examples = task.get_examples(
        context.node_config["partition-id"], context.node_config["num-partitions"], config
    )
    loss = task.train(model, examples, config, msg.content["config"]["server-round"])
    content = {
        "arrays": ArrayRecord(get_peft_model_state_dict(model)),
        "metrics": MetricRecord({"train_loss": loss, "num-examples": len(examples)}),
    }
    return Message(content=RecordDict(content), reply_to=msg)

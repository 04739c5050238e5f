"""The client after the change: holds the first blocks, and trains them with the split worker."""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from flowertune_split.dataset import ResponseCollator, formatting_func, get_tokenizer, load_data
from hsplit_flower import describe_device, split_train
from hsplit_flower.data import collated, formatted

app = ClientApp()


@app.query()
def query(msg: Message, context: Context) -> Message:
    """What this device has, and on how many rows it trains."""
    cfg, node = context.run_config, context.node_config
    trainset = load_data(node["partition-id"], node["num-partitions"], cfg["dataset"])
    return describe_device(msg, context, len(trainset))


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Some steps on this client's rows."""
    cfg, node = context.run_config, context.node_config
    trainset = load_data(node["partition-id"], node["num-partitions"], cfg["dataset"])
    tokenizer = get_tokenizer(cfg["model"])
    data_collator = ResponseCollator(tokenizer, mlm=False)

    rows = formatted(trainset, formatting_func, tokenizer, max_length=cfg["seq-length"])
    seed = (msg.content["config"]["server-round"], node["partition-id"])
    batches = collated(rows, data_collator, cfg["batch-size"], steps=cfg["max-steps"], seed=seed)
    return split_train(msg, context, batches)

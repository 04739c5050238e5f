"""The client as FlowerTune has it: loads the whole model, trains its adapter, sends that back."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from flowertune_split.dataset import ResponseCollator, formatting_func, get_tokenizer, load_data

app = ClientApp()


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Some steps on this client's rows."""
    cfg, node = context.run_config, context.node_config
    trainset = load_data(node["partition-id"], node["num-partitions"], cfg["dataset"])
    tokenizer = get_tokenizer(cfg["model"])
    data_collator = ResponseCollator(tokenizer, mlm=False)

    base = AutoModelForCausalLM.from_pretrained(cfg["model"])
    model = get_peft_model(base, LoraConfig(r=32, lora_alpha=64, task_type="CAUSAL_LM"))
    set_peft_model_state_dict(model, msg.content["arrays"].to_torch_state_dict())
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        args=SFTConfig(
            max_steps=cfg["max-steps"],
            per_device_train_batch_size=cfg["batch-size"],
            max_length=cfg["seq-length"],
            learning_rate=cfg["learning-rate"],
        ),
        train_dataset=trainset,
        formatting_func=formatting_func,
        data_collator=data_collator,
    )
    results = trainer.train()
    metrics = {"train_loss": results.training_loss, "num-examples": len(trainset)}
    content = {
        "arrays": ArrayRecord(get_peft_model_state_dict(model)),
        "metrics": MetricRecord(metrics),
    }
    return Message(content=RecordDict(content), reply_to=msg)

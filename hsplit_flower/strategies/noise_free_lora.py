"""NoiseFreeLoRA: exact aggregation for apps whose clients train a whole model with LoRA.

`FedAvg` averages ``B`` and ``A`` apart, and ``mean(B) mean(A)`` is not the mean of ``B A``. The sum
that is kept here is exact (HSplitLoRA's aggregation, arXiv 2505.02795), whatever ranks the clients
have.
"""

from ..server.peft_strategy import PeftStrategy


class NoiseFreeLoRA(PeftStrategy):
    """Take `FedAvg`'s place in an app whose clients send ``get_peft_model_state_dict(model)``.

    ::

        from hsplit_flower import NoiseFreeLoRA

        strategy = NoiseFreeLoRA(fraction_train=0.5, peft_config=model.peft_config["default"])

    Nothing changes on the clients. The parameters are those of `PeftStrategy`.
    """

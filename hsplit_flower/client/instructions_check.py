"""Whether this device can do what it is instructed to: whoever instructs it may be anybody."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import AdapterError, ConfigError, HSplitError, UnsupportedModelError
from ..settings import SessionSpec
from ..sizes import size_text
from ..splitting import Architecture, Checkpoint, floating_dtype
from ..splitting.base_digest import BaseDigest
from ..splitting.base_reading import digest_of
from ..splitting.quantisation import quantisation_of
from ..splitting.quantised_loading import check_installed
from ..types import Span
from ..wire.instructions import WholeTraining
from ..worker.admission import check_ranks

logger = logging.getLogger(__name__)

# A factor, its gradient and two moments, in float32.
BYTES_A_NUMBER = 16


def check_part(
    spec: SessionSpec, architecture: Architecture, span: Span, granted_bytes: float
) -> None:
    """Refuse a cut or adapters that the model cannot have, or this device cannot hold.

    Parameters
    ----------
    spec
        What the session was opened with, as the instructions say.
    architecture, span
        The model's, and the blocks that are held here.
    granted_bytes
        What the device may give.

    Raises
    ------
    SplitError
        If the cut is none of the model's: what would leave the device below the first block are
        raw embeddings.
    AdapterError
        If a rank is not possible, or training the factors would take more than is granted.
    """
    architecture.check_cut(spec.cut)
    check_ranks(spec, architecture)
    numbers = sum(
        spec.ranks.get(weight.name, 0) * (weight.in_features + weight.out_features)
        for weight in architecture.weights_in(span)
    )
    wanted_bytes = BYTES_A_NUMBER * numbers
    if wanted_bytes > granted_bytes:
        raise AdapterError(
            f"the adapters of these ranks take {size_text(wanted_bytes)}, this device grants "
            f"{size_text(granted_bytes)}: lower ranks are wanted"
        )


def check_half_fits(wanted_bytes: float, granted_bytes: float) -> None:
    """Refuse a half that this device cannot hold.

    Raises
    ------
    ConfigError
        If its weights alone take more than is granted.
    """
    if wanted_bytes > granted_bytes:
        raise ConfigError(
            f"the weights of the half that the instructions name take {size_text(wanted_bytes)}, "
            f"this device grants {size_text(granted_bytes)}: a lower cut or a smaller model is "
            "wanted, or more memory-gb in the node config"
        )


def checked_base(model: str, *, revision: str, dtype: str, quantised: str = "") -> BaseDigest:
    """What of a model's base is on this device, before anything is planned for it.

    Its configuration must be, some of its weights where it is a folder, and what it takes to load
    the model, where that is quantised.

    Parameters
    ----------
    model
        What the client's half is to be loaded from.
    revision
        Of a hub model; empty for its main branch.
    dtype
        What it is to compute in.
    quantised
        What it is quantised to while it is loaded; empty takes it as it is.

    Raises
    ------
    UnsupportedModelError
        If it has none, or no weights of it that can be read; its log says why. Or if it is
        quantised to something else already.
    ConfigError
        If what quantises is not installed.
    """
    with in_our_words(model):
        checkpoint = Checkpoint(source=model, revision=revision or None)
        is_quantised = quantisation_of(checkpoint.config(), quantised, source=model) is not None
        if is_quantised:
            check_installed()
        checkpoint.check_some_weights()
        return digest_of(checkpoint, floating_dtype(dtype), is_quantised=is_quantised)


@contextmanager
def in_our_words(model: str) -> Iterator[None]:
    """What fails inside because of the instructions becomes an error of ours.

    Files of this device are not told of: neither what they are called nor whether they are there.

    Parameters
    ----------
    model
        What is to be loaded.
    """
    try:
        yield
    except UnsupportedModelError as error:
        if not _is_a_path(model):
            raise
        logger.warning("the model cannot be loaded: %s", error)
        raise UnsupportedModelError(
            "the model that the instructions or its node config name cannot be loaded from this "
            "device's disk; its log says why. A folder of its own is given in the node config, as "
            "model"
        ) from None
    except HSplitError:
        raise
    except Exception as error:
        logger.exception("the instructions cannot be followed")
        raise ConfigError(
            f"the instructions cannot be followed on this device ({type(error).__name__}); its "
            "log says why"
        ) from None


def _is_a_path(model: str) -> bool:
    """Whether a model's name is one of a place on the disk; the hub's have one slash at most."""
    return model.startswith((os.sep, ".", "~")) or model.count("/") > 1 or os.path.lexists(model)


def check_kind(told: WholeTraining, *, is_whole: bool) -> None:
    """See that the app's function is of the kind that the server's method asks for.

    Raises
    ------
    ConfigError
        Naming the function that is wanted.
    """
    if told.is_whole and not is_whole:
        raise ConfigError(
            "the server's method trains the whole model on each client: call federated_train and "
            "federated_evaluate in the ClientApp, not split_train and split_evaluate"
        )
    if is_whole and not told.is_whole:
        raise ConfigError(
            "the server's method splits the model: call split_train and split_evaluate in the "
            "ClientApp, not federated_train and federated_evaluate"
        )

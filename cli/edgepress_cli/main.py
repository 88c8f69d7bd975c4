"""The `edgepress` command: finds the verb, lets typer parse, does the work, and turns every ending into an exit code.

A verb's module is imported only when that verb is used, and its work begins only after parsing is done. So help and
wrong use answer at once (which is also why some imports stand inside functions), and nothing that the work raises
passes through typer.
"""

from __future__ import annotations

import functools
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from edgepress import __version__
from edgepress.errors import UserError

if TYPE_CHECKING:
    import typer


class Verb(NamedTuple):
    """A word of the command line. `function` is "module:function"; the function is annotated for typer."""

    name: str
    function: str
    help: str


VERBS = (
    Verb("run", "edgepress_cli.run:run", "carry out a recipe: compress, export, measure, judge"),
    Verb("prune", "edgepress_cli.only:prune", "only the pruning steps of a recipe"),
    Verb("sparsify", "edgepress_cli.only:sparsify", "only the sparsity steps of a recipe"),
    Verb("sensitivity", "edgepress_cli.sensitivity:sensitivity", "what each group of channels is worth to the task"),
    Verb("quantize", "edgepress_cli.only:quantize", "only the quantization steps of a recipe"),
    Verb("distill", "edgepress_cli.distill:distill", "only the training steps of a recipe, taught or not"),
    Verb("export", "edgepress_cli.export:export", "write a network as ONNX, or a quantized one as C"),
    Verb("inspect", "edgepress_cli.inspect:inspect", "what a network is made of, layer by layer"),
    Verb("measure", "edgepress_cli.measure:measure", "size, latency, memory and cold start of artifacts on a target"),
    Verb("targets", "edgepress_cli.targets:targets", "where artifacts can run, and what is missing here"),
    Verb("gate", "edgepress_cli.gate:gate", "hold a run or any model file against budgets"),
    Verb("baseline", "edgepress_cli.baseline:baseline", "accept a run's values as what the next ones are held against"),
    Verb("compare", "edgepress_cli.compare:compare", "runs and model files side by side"),
    Verb("report", "edgepress_cli.report:report", "write a finished run's report anew"),
    Verb("init", "edgepress_cli.init:init", "write a recipe for a model, to start from"),
    Verb("schema", "edgepress_cli.schema:schema", "print the JSON Schema of recipes, for editors"),
)

Work = Callable[[], int | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see `edgepress.errors.ExitCode`)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        work = parse([word for word in given if word != "--debug"])
        code = work() if work else None
        sys.stdout.flush()
        return int(code or 0)
    except (Exception, KeyboardInterrupt) as error:
        from edgepress_cli.endings import end

        return end(error, debug=debug)


def parse(words: Sequence[str]) -> Work | None:
    """What the words ask for, ready to be called; `None` if it was help and has been printed.

    Raises:
        UserError: wrong use.
    """
    first = words[0] if words else "--help"
    if first in ("--help", "-h"):
        print(_help())
    elif first == "--version":
        print(f"edgepress {__version__}")
    elif verb := next((verb for verb in VERBS if verb.name == first), None):
        return _parse_verb(verb, words[1:])
    else:
        raise _unknown(first)
    return None


def _help() -> str:
    # Not typer's: this way it answers in a fraction of the time, and no verb's module is imported for it.
    width = max(len(verb.name) for verb in VERBS)
    verbs = "\n".join(f"  {verb.name:{width}}  {verb.help}" for verb in VERBS)
    return (
        "Usage: edgepress VERB [OPTIONS] [ARGUMENTS]\n\n"
        "Compress trained networks for the edge, and prove what they cost and still know.\n\n"
        f"Verbs (edgepress VERB --help explains each):\n{verbs}\n\n"
        "Options:\n"
        "  --version  print the version\n"
        "  --debug    show the traceback of any error; goes with every verb\n"
        "  --help     show this\n\n"
        "Exit codes: 0 pass, 1 a budget failed, 2 wrong use, 3 inconclusive, 4 a tool or device failed, 70 a defect."
    )


def _unknown(word: str) -> UserError:
    import difflib

    names = [verb.name for verb in VERBS]
    near = difflib.get_close_matches(word, names, n=1)
    kind = "option" if word.startswith("-") else "verb"
    fix = f"edgepress {near[0]}" if near else "edgepress --help"
    return UserError(f"edgepress: no such {kind}", found=word, expected=", ".join(names), fix=fix)


def _parse_verb(verb: Verb, words: Sequence[str]) -> Work | None:
    import typer

    # No rich markup: it would cost 60 of the 200 milliseconds that help may take.
    application = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    settings = {"help_option_names": ["--help", "-h"]}
    application.command(verb.name, context_settings=settings)(_deferred(_function(verb)))
    command = typer.main.get_command(application)
    try:
        result = command(args=list(words), prog_name=f"edgepress {verb.name}", standalone_mode=False)
    except typer.TyperException as error:
        raise _wrong_use(error, verb, words) from None
    except SystemExit:  # typer's answer to a reader that has gone away
        raise BrokenPipeError from None
    return result if callable(result) else None


def _function(verb: Verb) -> Callable[..., int | None]:
    module, _, name = verb.function.partition(":")
    function: Callable[..., int | None] = getattr(import_module(module), name)
    return function


def _deferred(function: Callable[..., int | None]) -> Callable[..., Work]:
    """For typer the same function; but called, it only remembers its arguments."""

    @functools.wraps(function)
    def remember(**settings: Any) -> Work:
        return functools.partial(function, **settings)

    return remember


def _wrong_use(error: typer.TyperException, verb: Verb, words: Sequence[str]) -> UserError:
    import shlex

    name = f"edgepress {verb.name}"
    context = getattr(error, "ctx", None)
    usage = " ".join(context.get_usage().split()[1:]) if context else name
    message = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    return UserError(f"{name}: {message}", found=shlex.join([name, *words]), expected=usage, fix=f"{name} --help")


def entry() -> None:
    """The console script."""
    # Typer reads arguments with pydantic, whose search for plugins costs more than the reading.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # torch copies its own trees in a way that it has deprecated itself: nothing a user could mend.
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no ✓ shows ? and lives
    sys.exit(main())

"""The command line: the verbs by name, and the handling of errors.

Exit status 0: all runs are done (completed or diverged); 1: some failed, were interrupted or are missing; 2: a bad file
or call; 130: stopped; 141: the reader of the output is gone (a sweep goes on).
"""

import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from nfrepro.cli import benchmarks, cost, experiments, init, settle, stored, sweep, verdicts, watching, weights
from nfrepro.cli import signal as signal_verbs
from nfrepro.cli.output import complain, interrupt
from nfrepro.errors import InputError
from nfrepro.terminal import outlive_readers, take_streams

app = typer.Typer(
    help="Check the claims of the paper on normalizer-free ResNets (arXiv 2101.08692).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
# In the order of the help.
VERBS: dict[str, Callable[..., None]] = {
    "init": init.init,
    "list": experiments.list_experiments,
    "expand": experiments.expand_experiment,
    "plan": cost.plan,
    "dry-run": cost.dry_run,
    "sweep": sweep.sweep,
    "run": sweep.run_one,
    "status": watching.status,
    "logs": watching.logs,
    "cancel": watching.cancel,
    "collect": stored.collect,
    "draw": stored.draw,
    "compare": stored.compare,
    "export": stored.export,
    "prune": stored.prune,
    "migrate": stored.migrate,
    "claims": verdicts.claims,
    "report": verdicts.report,
    "settle": settle.settle,
    "bench": benchmarks.bench,
    "convert": weights.convert,
    "evaluate": weights.evaluate,
    "gain": signal_verbs.gain,
    "spp": signal_verbs.spp,
}
for name, verb in VERBS.items():
    app.command(name)(verb)

STOPPED = 130


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"nfrepro {version('nfrepro')}")
        raise typer.Exit


@app.callback()
def main_options(
    print_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Check the claims of the paper on normalizer-free ResNets (arXiv 2101.08692)."""


def main() -> NoReturn:
    """Entry point: turns any error in the input into one line and exit status 2."""
    signal.signal(signal.SIGTERM, interrupt)
    take_streams()
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        sys.exit(complain(str(error), 2))
    except OSError as error:
        sys.exit(complain(f"{error.filename or 'system'}: {error.strerror or error}: mend this and start again", 1))
    except Exception as error:
        if hasattr(error, "format_message"):  # an error in the call, found by typer
            sys.exit(complain(f"{error.format_message()} (see nfrepro --help)", 2))
        raise
    finally:
        outlive_readers()  # streams are also flushed at exit
    if code == STOPPED:  # typer turns a KeyboardInterrupt into this
        complain("stopped: the same command continues where it stopped", STOPPED)
    sys.exit(code if isinstance(code, int) else 0)

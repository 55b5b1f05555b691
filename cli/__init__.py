"""The command line: `guardrail <group> <verb>`, in az's shape. Each group is a file; main() alone ends the process."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Sequence

import typer

from cli import remote
from cli.output import MEANING, Code, Ended, screen, warn
from guardrail import logs
from guardrail.errors import ConfigError, Denied, GuardrailError, Held, Refused, Unsafe

COMMANDS = {"run": "run", "simulate": "simulate", "replay": "replay", "scan": "scan", "plan": "plan", "explain": "findings",
            "quarantine": "decide", "release": "decide", "look": "decide", "doctor": "doctor"}
GROUPS = ("findings", "actions", "approvals", "exemptions", "freeze", "baselines", "controls", "mode", "policy", "audit",
          "role", "filters")
HERE = ("run", "simulate", "replay", "scan", "controls", "policy", "role", "filters")     # ask no guardrail


def command_line(names: Iterable[str]) -> typer.Typer:
    """The app with these commands and groups; each costs its imports, so a command that is called comes alone."""
    app = typer.Typer(
        name="guardrail", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        help="Watches AI workloads on Azure, and puts drift back, asks, or reports.",
        epilog="\b\nAnywhere on the line:\n  --color auto|always|never   NO_COLOR is honoured\n"
               "  --only-show-errors          no target, no hints on stderr\n"
               "  --verbose                   log lines on stderr (run)\n"
               "  --url https://HOST          the guardrail to ask; else GUARDRAIL_URL, else azd's, else the local store\n"
               "  --local                     the local store, whatever the environment says\n"
               "  --yes                       do not ask before something is changed\n\n"
               "\b\nExit codes:\n" + "\n".join(f"  {code:<3} {words}" for code, words in MEANING.items()))
    app.callback()(lambda: None)
    for name in names:
        module = importlib.import_module(f"cli.{COMMANDS.get(name, name)}")
        if name in COMMANDS:
            own = getattr(module, f"{name.upper()}_HELP", None)
            app.command(epilog=own or module.HELP)(getattr(module, name))
        else:
            app.add_typer(module.group, name=name)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """The command of `argv`, or of the process; its exit code, said in words on stderr when it is not 0."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        words = _common(list(sys.argv[1:] if argv is None else argv))
        logs.configure("info" if screen.verbose else "error", sys.stderr)
        known = (*COMMANDS, *GROUPS)
        app = command_line([words[0]] if words and words[0] in known else known)
        answer = typer.main.get_command(app).main(words, prog_name="guardrail", standalone_mode=False)
        return answer if isinstance(answer, int) else 0
    except Ended as end:
        return _end(end.code, end.words)
    except ConfigError as error:
        return _end(Code.BAD_POLICY, logs.visible(str(error)))
    except Refused as error:
        warn(f"refused: {logs.visible(str(error))}" + (f"\n  cure: {logs.visible(error.cure)}" if error.cure else ""))
        return _end(Code.REFUSED, "")
    except (Unsafe, Denied, Held) as error:
        return _end(Code.REFUSED, logs.visible(str(error)))
    except GuardrailError as error:
        return _end(Code.UNFINISHED, f"{logs.visible(str(error))} ({type(error).__name__})")
    except (KeyboardInterrupt, typer.Abort):
        return _end(Code.INTERRUPTED, "interrupted.")
    except typer.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)    # whoever read us has seen enough
        return Code.UNFINISHED
    except typer.TyperException as error:
        return _usage(error)


def _common(argv: list[str]) -> list[str]:
    """Takes the options that may stand anywhere out of the line."""
    rest = list[str]()
    screen.colour, screen.only_errors, screen.verbose = "auto", False, False
    chosen = remote.chosen
    chosen.url, chosen.is_local, chosen.is_sure = "", False, False
    while argv:
        word = argv.pop(0)
        if word == "--":
            return [*rest, word, *argv]
        if word == "--only-show-errors":
            screen.only_errors = True
        elif word == "--verbose":
            screen.verbose = True
        elif word == "--local":
            chosen.is_local = True
        elif word in ("--yes", "-y"):
            chosen.is_sure = True
        elif word == "--url" or word.startswith("--url="):
            chosen.url = word.partition("=")[2] or (argv.pop(0) if argv else "")
            if not chosen.url:
                raise Ended(Code.USAGE, "--url names no guardrail. cure: --url https://HOST.")
        elif word == "--color" or word.startswith("--color="):
            screen.colour = word.partition("=")[2] or (argv.pop(0) if argv else "")
            if screen.colour not in ("auto", "always", "never"):
                raise Ended(Code.USAGE, f"--color {screen.colour!r} is not auto, always or never.")
        else:
            rest.append(word)
    if chosen.url and rest and rest[0] in HERE:
        raise Ended(Code.USAGE, f"guardrail {rest[0]} asks no guardrail. cure: leave --url out.")
    if chosen.url and chosen.is_local:
        raise Ended(Code.USAGE, "--url and --local: which of them? cure: leave one out.")
    return rest


def _usage(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stdout.write(context.get_help() + "\n" if context else "")
        return Code.DONE
    say = getattr(error, "format_message", error.__str__)
    where = f" See: {context.command_path} --help" if context else ""
    return _end(Code.USAGE, f"{logs.visible(say()).rstrip('.')}.{where}")


def _end(code: Code, words: str) -> int:
    if code or (words and not screen.only_errors):
        warn(f"exit {int(code)}: {words or MEANING[code] + '.'}")
    return int(code)


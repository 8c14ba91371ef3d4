"""
The command line: python -m enhancer ...

Exit codes: 0 done, 1 the job failed, 2 wrong use or set-up. An error is one line on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from enhancer import __version__, logs, settings
from enhancer.cli import commands
from enhancer.cli.client import JobFailed
from enhancer.errors import EnhancerError, InvalidRequest, SetupError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        chosen = settings.load(host=getattr(arguments, "host", None), port=getattr(arguments, "port", None))
        # a progress bar and log lines do not go together
        logs.configure(chosen, level=None if arguments.command == "serve" else "WARNING")
        return int(asyncio.run(arguments.run(chosen, arguments)))
    except KeyboardInterrupt:
        return _say("interrupted", 1)
    except SetupError as error:
        return _say(str(error), 2)
    except InvalidRequest as error:
        return _say("; ".join(f"{field}: {message}" for field, message in error.errors), 2)
    except (JobFailed, EnhancerError) as error:
        return _say(str(error), 1)


def _say(sentence: str, code: int) -> int:
    print("enhancer:", " ".join(sentence.split()), file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="enhancer", description="Turns a product photo into an advertisement, live.")
    parser.add_argument("--version", action="version", version=__version__)
    add = parser.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser

    serve = add("serve", help="run the service")
    serve.add_argument("--host", help="address to listen on")
    serve.add_argument("--port", type=int, help="port to listen on; 0: any free one")
    serve.set_defaults(run=commands.serve)

    enhance = add("enhance", help="enhance a photo and write a script, here or on a server")
    _photo_arguments(enhance)
    enhance.set_defaults(run=commands.enhance)

    video = add("video", help="enhance a photo, write a script and make a video of both, here or on a server")
    _photo_arguments(video)
    video.set_defaults(run=commands.video)

    token = add("token", help="print an account token and nothing else")
    token.add_argument("email")
    token.set_defaults(run=commands.token)

    user = add("user", help="users and their subscriptions")
    _user_commands(user)

    add("migrate", help="bring the database's schema up to date").set_defaults(run=commands.migrate)
    add("doctor", help="check what the service needs, and say what to do").set_defaults(run=commands.doctor)
    return parser


def _photo_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("photo", type=Path, help="a JPEG, PNG or WebP file")
    command.add_argument("-d", "--description", default="", help="what the product is")
    command.add_argument("--duration", default="4", help="seconds of the advertisement: 4, 8 or 12")
    command.add_argument("--language", default="en", help="of the script and the messages, such as en or zh-CN")
    command.add_argument("--server", help="address of a running service; without it, the work is done here")
    command.add_argument("--token", help="account token for that server")
    command.add_argument("-o", "--output", type=Path, default=Path(), help="folder for the results")


def _user_commands(user: argparse.ArgumentParser) -> None:
    add = user.add_subparsers(dest="action", required=True, metavar="ACTION").add_parser
    added = add("add", help="add a user")
    added.add_argument("email")
    added.add_argument("--password", help="without it, one is made and printed")
    added.set_defaults(run=commands.user_add)
    add("list", help="list all users").set_defaults(run=commands.user_list)
    revoke = add("revoke", help="end all tokens, links and open streams of a user")
    revoke.add_argument("email")
    revoke.set_defaults(run=commands.user_revoke)
    subscribe = add("subscribe", help="give a user an active subscription")
    subscribe.add_argument("email")
    subscribe.add_argument("--plan", default="standard")
    subscribe.add_argument("--quota", type=int, help="tasks a month; without it, no limit")
    subscribe.add_argument("--days", type=int, default=365, help="from now")
    subscribe.set_defaults(run=commands.user_subscribe)

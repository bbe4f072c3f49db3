"""`warmfork completion`: a script that completes warmfork's words in a shell, made from the tables of its commands."""

from __future__ import annotations

from warmfork.cli import COMMANDS, load
from warmfork.cli.command import BadUsage, Command

SHELLS = ("bash", "zsh", "fish")

COMMAND = Command(
    "completion",
    "bash | zsh | fish",
    "Prints a script with which the shell completes warmfork's commands, options and their values.",
    examples=[
        ("source <(warmfork completion bash)", "for this bash; the same line in ~/.bashrc is for all"),
        ("source <(warmfork completion zsh)", "for this zsh; in ~/.zshrc it comes after compinit"),
        ("warmfork completion fish > ~/.config/fish/completions/warmfork.fish", "for each fish"),
    ],
    words=SHELLS,
)


def main(argv: list[str]) -> int:
    """Print the script. Raises BadUsage."""
    _, words = COMMAND.parse(argv)
    if len(words) != 1:
        raise BadUsage("warmfork completion wants the name of one shell", f"it is one of {', '.join(SHELLS)}")
    commands = [load(name)[0] for name in COMMANDS]
    print({"bash": write_bash, "zsh": write_zsh, "fish": write_fish}[words[0]](commands))
    return 0


def write_bash(commands: list[Command]) -> str:
    """Give the script for bash."""
    cases, values = [], []
    for command in commands:
        words = [name for option in command.options for name in option.names] + [*command.words]
        cases.append(f"        {command.name}) words='{' '.join(words)}' ;;")
        for option in command.options:
            if option.value:
                names = "|".join(f"{command.name}:{name}" for name in option.names)
                values.append(
                    f"        {names}) COMPREPLY=($(compgen -W '{' '.join(option.choices)}' -- \"$now\")); return ;;"
                )
    return f"""\
_warmfork() {{
    local now="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" command="${{COMP_WORDS[1]}}" words=''
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W '{" ".join(COMMANDS)} --help --version' -- "$now"))
        return
    fi
    case "$command:$before" in
{chr(10).join(values)}
    esac
    case "$command" in
{chr(10).join(cases)}
    esac
    if [[ "$now" == -* || "$command" != run ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$now"))
    fi
}}
complete -o default -F _warmfork warmfork"""


def write_zsh(commands: list[Command]) -> str:
    """Give the script for zsh."""
    cases = []
    for command in commands:
        lines = []
        for option in command.options:
            for name in option.names:
                value = f":{option.value}:({' '.join(option.choices)})" if option.value else ""
                lines.append(quote(f"*{name}[{escape(option.meaning)}]{value}"))
        rest = "'*:file:_files'" if "FILE" in command.usage else f"'*:word:({' '.join(command.words)})'"
        cases.append(f"        {command.name}) _arguments {' '.join(lines)} {rest} ;;")
    described = " ".join(quote(f"{name}:{what}") for name, what in COMMANDS.items())
    return f"""\
#compdef warmfork
_warmfork() {{
    if (( CURRENT == 2 )); then
        local -a commands=({described})
        _describe command commands
        return
    fi
    local command="${{words[2]}}"
    shift words
    (( CURRENT-- ))
    case "$command" in
{chr(10).join(cases)}
    esac
}}
compdef _warmfork warmfork"""


def write_fish(commands: list[Command]) -> str:
    """Give the script for fish."""
    lines = ["complete -c warmfork -f"]
    lines += [
        f"complete -c warmfork -n __fish_use_subcommand -a {name} -d {quote(COMMANDS[name])}" for name in COMMANDS
    ]
    for command in commands:
        seen = f"complete -c warmfork -n '__fish_seen_subcommand_from {command.name}'"
        for option in command.options:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            values = f" -x -a {quote(' '.join(option.choices))}" if option.value else ""
            lines.append(f"{seen} {names} -d {quote(option.meaning)}{values}")
        if command.words:
            lines.append(f"{seen} -a {quote(' '.join(command.words))}")
        if "FILE" in command.usage:
            lines.append(f"{seen} -F")
    return "\n".join(lines)


def quote(text: str) -> str:
    """Give text as one word of a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def escape(text: str) -> str:
    """Give text as zsh's _arguments takes it."""
    return text.replace("[", "(").replace("]", ")").replace(":", "\\:")

"""The table of settings in docs/reference/settings.md, which a test compares with what this prints.

python -m tridex.serving.settings_table
"""

from __future__ import annotations

from .settings import ServerSettings, flag, variable


def settings_table() -> str:
    """A Markdown table of every setting. In a TOML file, a setting has its flag's name with underscores."""
    rows = ["| flag | variable | default | meaning |", "| --- | --- | --- | --- |"]
    for name, setting in ServerSettings.model_fields.items():
        text = str(setting.default).lower() if isinstance(setting.default, bool) else str(setting.default)
        default = "" if setting.default is None else f"`{text}`"
        rows.append(f"| `{flag(name)}` | `{variable(name)}` | {default} | {setting.description} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(settings_table())

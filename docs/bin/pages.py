#!/usr/bin/env python
# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of modules and roles, from what ansible-doc says of them: docs/modules/NAME.md, docs/roles/NAME.md, roles/NAME/README.md.

Only what stands between the two marks is written; words before and after it are written by hand and stay.
``--check`` writes nothing, names the pages that are not current, and fails if there are any.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

TOP = Path(__file__).resolve().parents[2]
COLLECTION = "sipguard.pbx"
BEGIN = "<!-- From here to the mark below, this page is written by docs/bin/pages.py (make docs). -->\n"
END = "<!-- End of what docs/bin/pages.py writes. -->\n"

_CODE = re.compile(r"\b(?:C|V|O|E|RV)\(((?:[^()\\]|\\.|\([^()]*\))*)\)")
_MODULE = re.compile(r"\bM\(([a-z0-9_.]+)\)")
_LINK = re.compile(r"\bL\(([^,)]+), ?([^)]+)\)|\bU\(([^)]+)\)")
_STRONG = re.compile(r"\b([BI])\(([^)]*)\)")


def ansible_doc(kind: str, names: Iterable[str]) -> dict[str, Any]:
    """What ``ansible-doc --json`` says of modules or roles: short name -> documentation."""
    env = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(TOP / ".cache"),
        "ANSIBLE_HOME": str(TOP / ".cache/ansible"),
        "ANSIBLE_DEPRECATION_WARNINGS": "false",
    }
    command = [str(Path(sys.executable).with_name("ansible-doc")), "--json", "--type", kind]
    command += [f"{COLLECTION}.{name}" for name in names]
    done = subprocess.run(command, env=env, cwd=TOP, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"docs/bin/pages.py: {done.stderr.strip()}")
    return {name.rsplit(".", 1)[1]: value for name, value in json.loads(done.stdout).items()}


def written_order(path: Path) -> list[str]:
    """Names of the options that a Python file documents, in its own order (ansible-doc sorts them)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["DOCUMENTATION"]:
            return list(yaml.safe_load(ast.literal_eval(node.value)).get("options") or {})
    return []


def markup(text: str) -> str:
    """Ansible's markup as Markdown."""

    def code(found: re.Match[str]) -> str:
        value = found[1].replace("\\", "")
        if found[0].startswith("RV(") and "#module:" in value:
            plugin, _dummy, value = value.partition("#module:")
            return f"`{value}` of [{plugin}]({plugin.rsplit('.', 1)[1]}.md)"
        return f"`{value.replace('=', ': ')}`" if found[0].startswith("O(") else f"`{value}`"

    text = _MODULE.sub(lambda found: f"[{found[1]}]({found[1].rsplit('.', 1)[1]}.md)", text)
    text = _LINK.sub(lambda found: f"<{found[3]}>" if found[3] else f"[{found[1]}]({found[2]})", text)
    text = _STRONG.sub(lambda found: f"**{found[2]}**" if found[1] == "B" else f"*{found[2]}*", text)
    return _CODE.sub(code, text)


def sentences(description: str | list[str]) -> list[str]:
    return [markup(text) for text in ([description] if isinstance(description, str) else description)]


def kind_of(option: dict[str, Any]) -> str:
    kind = option.get("type", "str")
    return f"list of {option['elements']}" if kind == "list" and "elements" in option else str(kind)


def options_list(options: dict[str, Any], indent: str = "") -> list[str]:
    """One item per option: name, type, whether it is required, its default and choices, what it means, and what it is made of."""
    lines = []
    for name, option in options.items():
        facts = [kind_of(option)]
        if option.get("required"):
            facts.append("required")
        if option.get("choices"):
            facts.append("one of " + ", ".join(f"`{choice}`" for choice in option["choices"]))
        if option.get("default") is not None:
            default = option["default"]
            facts.append(f"default `{default if isinstance(default, str) and default else json.dumps(default)}`")
        lines.append(f"{indent}- **`{name}`** ({'; '.join(facts)})  ")
        lines += [f"{indent}  {text}  " for text in sentences(option["description"])]
        lines[-1] = lines[-1].rstrip()
        lines += options_list(option.get("suboptions") or {}, indent + "  ")
    return lines


def results_list(results: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, result in results.items():
        lines.append(f"{indent}- **`{name}`** ({kind_of(result)}; returned: {result['returned']})  ")
        lines += [f"{indent}  {text}  " for text in sentences(result["description"])]
        if "sample" in result:
            lines.append(f"{indent}  Sample: `{json.dumps(result['sample'])}`")
        lines[-1] = lines[-1].rstrip()
        lines += results_list(result.get("contains") or {}, indent + "  ")
    return lines


def section(title: str, lines: list[str]) -> list[str]:
    return ["", f"## {title}", "", *lines] if lines else []


def module_page(name: str, about: dict[str, Any]) -> list[str]:
    doc = about["doc"]
    options: dict[str, Any] = doc.get("options") or {}
    own = [option for option in written_order(TOP / f"plugins/modules/{name}.py") if option in options]
    fragments = sorted((TOP / "plugins/doc_fragments").glob("*.py"))
    shared = [option for path in fragments for option in written_order(path) if option in options and option not in own]
    others = [option for option in options if option not in own and option not in shared]
    attributes = [
        f"- `{attribute}`: {value['support']}. {' '.join(sentences(value['description']))}"
        for attribute, value in (doc.get("attributes") or {}).items()
        if attribute != "platform"
    ]
    related = [markup(f"- M({entry['module']})") for entry in doc.get("seealso") or [] if "module" in entry]
    example = ["```yaml", *about["examples"].strip().splitlines(), "```"]
    results = results_list(about.get("return") or {})
    return [
        *sentences(doc["description"]),
        *section("Needs", [f"- {markup(text)}" for text in doc.get("requirements") or []]),
        *section("Options", options_list({option: options[option] for option in own + others}) or ["None."]),
        *section(
            "Options that all firewall modules share", options_list({option: options[option] for option in shared})
        ),
        *section("Behaviour", attributes),
        *section("Notes", [f"- {text}" for text in sentences(doc.get("notes") or [])]),
        *section("Examples", example),
        *section("Results", results),
        *section("See also", related),
    ]


def role_page(name: str, about: dict[str, Any]) -> list[str]:
    main = about["entry_points"]["main"]
    specs = yaml.safe_load((TOP / f"roles/{name}/meta/argument_specs.yml").read_text(encoding="utf-8"))
    order = specs["argument_specs"]["main"]["options"]
    return [
        *sentences(main["description"]),
        *section("Variables", options_list({option: main["options"][option] for option in order})),
    ]


def in_table(text: str) -> str:
    """Text as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def role_readme(name: str, about: dict[str, Any]) -> list[str]:
    """The short form of a role's page that travels with the role itself."""
    main = about["entry_points"]["main"]
    specs = yaml.safe_load((TOP / f"roles/{name}/meta/argument_specs.yml").read_text(encoding="utf-8"))
    rows = ["| variable | type | default | |", "|---|---|---|---|"]
    for variable in specs["argument_specs"]["main"]["options"]:
        option = main["options"][variable]
        default = option.get("default")
        shown = default if isinstance(default, str) and default else json.dumps(default)
        facts = (
            f"`{variable}`",
            kind_of(option),
            f"`{in_table(shown)}`",
            in_table(sentences(option["description"])[0]),
        )
        rows.append(f"| {' | '.join(facts)} |")
    example = ["```yaml", "- hosts: pbx", "  become: true", "  gather_facts: false", "  roles:"]
    example += [f"    - role: {COLLECTION}.{name}", "```"]
    return [
        *sentences(main["description"]),
        *section(
            "Example",
            [*example, "", f"`{COLLECTION}.harden_pbx` runs it together with the others, in the right order."],
        ),
        *section(
            "Variables", [*rows, "", f"Each of them in full: [docs/roles/{name}.md](../../docs/roles/{name}.md)."]
        ),
    ]


def paragraphs(lines: list[str]) -> str:
    """The description's sentences become paragraphs; list items stay together."""
    text = "\n".join(lines) + "\n"
    head, mark, rest = text.partition("\n\n## ")
    return head.replace("\n", "\n\n") + (mark + rest if mark else "")


def with_generated(page: str, title: str, generated: str) -> str:
    """The page with its generated part anew; a new page gets a title. Raises ValueError when the marks are not right."""
    if not page:
        return f"# {title}\n\n{BEGIN}\n{generated}\n{END}"
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError("it has to hold each of the two marks once")
    before, _dummy, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{generated}\n{END}{rest.partition(END)[2]}"


def pages() -> Iterable[tuple[Path, str, str]]:
    """Every page: its path, its title, its generated part."""
    modules = sorted(path.stem for path in (TOP / "plugins/modules").glob("*.py") if path.stem != "__init__")
    roles = sorted(path.name for path in (TOP / "roles").glob("*") if path.is_dir())
    for name, about in sorted(ansible_doc("module", modules).items()):
        title = f"{name}: {about['doc']['short_description'][0].lower()}{about['doc']['short_description'][1:]}"
        yield TOP / f"docs/modules/{name}.md", title, paragraphs(module_page(name, about))
    for name, about in sorted(ansible_doc("role", roles).items()):
        short = about["entry_points"]["main"]["short_description"]
        title = f"{name}: {short[0].lower()}{short[1:]}"
        yield TOP / f"docs/roles/{name}.md", title, paragraphs(role_page(name, about))
        yield TOP / f"roles/{name}/README.md", title, paragraphs(role_readme(name, about))


def main(arguments: list[str]) -> int:
    check = arguments == ["--check"]
    if arguments and not check:
        print("usage: docs/bin/pages.py [--check]", file=sys.stderr)
        return 2
    status = 0
    for path, title, generated in pages():
        page = path.read_text(encoding="utf-8") if path.exists() else ""
        name = path.relative_to(TOP)
        try:
            wanted = with_generated(page, title, generated)
        except ValueError as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 1
            continue
        if page == wanted:
            continue
        if check:
            print(f"{name} is not current: run 'make docs'", file=sys.stderr)
            status = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted, encoding="utf-8")
            print(f"{name}: written")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

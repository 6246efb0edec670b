"""Profiles and keys: where they are kept, which of them counts, and that no key is shown."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, Ran, environment, run

from modelslab_llm.cli import _profiles
from modelslab_llm.testing import LocalServer

Here = Callable[..., Ran]

KEY = "sk-a-secret-key-123"


@pytest.fixture
def settings(home: Path) -> Path:
    return home / ".config" / "modelslab"


def add(here: Here, *arguments: str, key: str = KEY) -> Ran:
    ran = here("profile", "add", *arguments, "--api-key-file", "-", stdin=f"{key}\n".encode())
    assert KEY not in ran.out + ran.err
    return ran


def profiles(here: Here) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(here("profile", "list", "--json").out)
    return found


# Keeping


def test_the_first_profile_is_the_default(here: Here, settings: Path) -> None:
    assert add(here, "work", "--gguf", "dep_1").status == 0
    assert add(here, "relay", "--base-url", "https://relay.example", "--model", "m").status == 0
    work, relay = profiles(here)
    assert work == {"name": "work", "default": True, "gguf": "dep_1", "key": "file"}
    assert relay["base_url"] == "https://relay.example"
    assert (relay["default"], relay["model"]) == (False, "m")
    assert here("profile", "use", "relay").status == 0
    assert [profile["default"] for profile in profiles(here)] == [False, True]
    assert KEY not in (settings / "config.toml").read_text()


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes")
def test_only_the_owner_can_read_a_kept_key(here: Here, settings: Path) -> None:
    before = os.umask(0)
    try:
        add(here, "work")
    finally:
        os.umask(before)
    assert KEY in (settings / "keys.toml").read_text()
    assert stat.S_IMODE((settings / "keys.toml").stat().st_mode) == 0o600
    (settings / "keys.toml").chmod(0o644)
    add(here, "other")  # which makes the file private again
    assert stat.S_IMODE((settings / "keys.toml").stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes")
def test_a_key_file_that_others_can_read_is_noticed(here: Here, settings: Path) -> None:
    with LocalServer() as server:
        add(here, "here", "--base-url", server.llm_v7().base_url, key=server.api_key or "")
        (settings / "keys.toml").chmod(0o640)
        status, _, err = here("models", "--profile", "here")
    assert status == 0
    assert "can be read by others; run: chmod 600" in err


def test_what_a_person_wrote_stays(here: Here, settings: Path) -> None:
    settings.mkdir(parents=True)
    file = settings / "config.toml"
    file.write_text('# mine\ndefault = "a"  # of old\n\n[profiles.a]\ngguf = "x"  # here\n')
    add(here, "b", "--gguf", "y")
    here("profile", "use", "b")
    here("profile", "remove", "b")
    text = file.read_text()
    assert "# mine" in text
    assert 'gguf = "x"  # here' in text
    assert "[profiles.b]" not in text


def test_a_profile_is_overwritten_only_on_request(here: Here, settings: Path) -> None:
    add(here, "work", "--gguf", "dep_1", "--model", "m")
    status, _, err = add(here, "work", "--gguf", "dep_2")
    assert status == 2
    assert "--replace overwrites it" in err
    assert profiles(here)[0]["gguf"] == "dep_1"
    assert add(here, "work", "--gguf", "dep_2", "--replace", key="another-key-456").status == 0
    assert profiles(here) == [{"name": "work", "default": True, "gguf": "dep_2", "key": "file"}]
    assert "another-key-456" in (settings / "keys.toml").read_text()
    assert KEY not in (settings / "keys.toml").read_text()


def test_removing_a_profile_removes_its_key(here: Here, settings: Path) -> None:
    add(here, "work")
    add(here, "other")
    status, _, err = here("profile", "remove", "work")
    assert status == 0
    assert "choose another" in err
    assert [profile["name"] for profile in profiles(here)] == ["other"]
    assert "work" not in (settings / "keys.toml").read_text()
    assert here("profile", "remove", "work").status == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a b"], "cannot be a name"),
        (["../x"], "cannot be a name"),
        (["w", "--gguf", "a/b"], "is not a deployment id"),
        (["w", "--base-url", "relay"], "does not start with http"),
        (["w", "--v7", "--gguf", "d"], "each name a server"),
    ],
)
def test_a_profile_that_cannot_be(here: Here, arguments: list[str], said: str) -> None:
    status, _, err = add(here, *arguments)
    assert status == 2
    assert said in err
    assert profiles(here) == []


@pytest.mark.slow
def test_without_a_terminal_the_key_must_come_from_somewhere(home: Path) -> None:
    env = environment(None, home)
    ran = run("profile", "add", "work", env=env, start_new_session=True)
    assert ran.status == 2
    assert "--api-key-file, or --no-key" in ran.err
    assert run("profile", "add", "work", "--no-key", env=env, start_new_session=True).status == 0


# The place of the settings


@pytest.mark.slow
def test_the_place_of_the_settings(home: Path, tmp_path: Path) -> None:
    env = environment(None, home, XDG_CONFIG_HOME=str(tmp_path / "xdg"))
    assert run("profile", "add", "work", "--no-key", env=env).status == 0
    assert (tmp_path / "xdg" / "modelslab" / "config.toml").exists()
    env = environment(None, home, XDG_CONFIG_HOME="relative")
    assert run("profile", "add", "work", "--no-key", env=env, cwd=tmp_path).status == 0
    assert (home / ".config" / "modelslab" / "config.toml").exists()
    assert not (tmp_path / "relative").exists()


def test_the_place_on_windows() -> None:
    """Decided by the environment alone, so it can be asked for anywhere."""
    place = _profiles.folder({"APPDATA": r"C:\Users\Ada\AppData\Roaming"}, "nt")
    assert str(place).endswith("modelslab")
    assert "Roaming" in str(place)
    home = _profiles.folder({"HOME": "/home/ada"}, "nt")
    assert home.as_posix() == "/home/ada/AppData/Roaming/modelslab"


def test_a_link_to_the_settings_stays_a_link(here: Here, settings: Path, tmp_path: Path) -> None:
    settings.mkdir(parents=True)
    real = tmp_path / "dotfiles.toml"
    real.write_text("# mine\n")
    (settings / "config.toml").symlink_to(real)
    add(here, "work")
    assert (settings / "config.toml").is_symlink()
    assert "[profiles.work]" in real.read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[broken", "is not TOML"),
        (b'default = "gone"\n', "'gone' does not exist"),
        (b'[profiles.a]\nggfu = "x"\n', "'ggfu' is unknown; known are"),
        (b"[profiles.a]\ngguf = 5\n", "gguf must be a string"),
        (b'[profiles.a]\nkey = "secret"\n', "key must be 'keyring' or 'file'"),
        (b'[profiles.a]\ngguf = "x"\nbase_url = "http://h"\n', "each name a server"),
        (b"profiles = 3\n", "are allowed"),
        (b"[profiles]\na = 3\n", "is not a table"),
        (b"other = 3\n", "are allowed"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
@pytest.mark.parametrize("command", ["profile list", "profile add w --no-key", "ask Hi"])
def test_wrong_settings_are_reported_and_left(
    here: Here, settings: Path, text: bytes, said: str, command: str
) -> None:
    settings.mkdir(parents=True)
    file = settings / "config.toml"
    file.write_bytes(text)
    status, out, err = here(*command.split())
    assert (status, out) == (2, "")
    assert said in err
    assert str(file) in err
    assert err.count("\n") == 1
    assert file.read_bytes() == text


def test_settings_that_cannot_be_written(here: Here, home: Path) -> None:
    (home / ".config").write_text("a file where the folder should be")
    for command in ("profile list", "profile add w --no-key"):
        status, _, err = here(*command.split())
        assert status == 2
        assert "cannot be" in err


# Which of them counts


@pytest.fixture
def servers(here: Here) -> Any:
    """Two servers with their own keys: the profile `a`, which is the default, and `b`."""
    with LocalServer("A", api_key="key-of-a-1") as a, LocalServer("B", api_key="key-of-b-2") as b:
        for name, server, key in (("a", a, "key-of-a-1"), ("b", b, "key-of-b-2")):
            add(here, name, "--base-url", server.llm_v7().base_url, "--model", name, key=key)
        yield a, b


def keys_seen(server: LocalServer) -> set[str | None]:
    return {request.headers.get("x-api-key") for request in server.requests}


def test_the_default_profile_is_asked_with_its_key(here: Here, servers: Any) -> None:
    a, b = servers
    assert here("ask", "Hi").out == "A\n"
    assert here("ask", "Hi", "--profile", "b").out == "B\n"
    assert (keys_seen(a), keys_seen(b)) == ({"key-of-a-1"}, {"key-of-b-2"})
    assert [server.requests[-1].body["model"] for server in servers] == ["a", "b"]


def test_the_environment_comes_before_the_default_profile(here: Here, servers: Any) -> None:
    with LocalServer("C") as c:
        assert here("ask", "Hi", server=c).out == "C\n"
        assert here("ask", "Hi", "--profile", "b", server=c).out == "B\n"
        # The key and the model of the environment are for its own server.
        assert keys_seen(servers[1]) == {"key-of-b-2"}
        assert servers[1].requests[-1].body["model"] == "b"


def test_an_option_comes_before_all(here: Here, servers: Any, monkeypatch: Any) -> None:
    with LocalServer("C", api_key=None) as c:
        url = c.llm_v7().base_url
        assert here("ask", "Hi", "--model", "m", "--base-url", url).out == "C\n"
        assert keys_seen(c) == {None}  # nobody's key goes to a server that it is not for
        status, _, err = here("ask", "Hi", "--profile", "a", "--base-url", url)
    assert status == 2
    assert "--profile and --base-url each name a server" in err


@pytest.mark.slow
def test_a_profile_can_be_named_by_the_environment(home: Path, here: Here, servers: Any) -> None:
    env = environment(None, home, MODELSLAB_PROFILE="b")
    assert run("ask", "Hi", env=env).out == "B\n"
    env["MODELSLAB_PROFILE"] = "c"
    ran = run("ask", "Hi", env=env)
    assert ran.status == 2
    assert "there is no profile 'c'; there are: a, b" in ran.err


@pytest.mark.slow
def test_a_profile_without_a_key_takes_that_of_the_environment(here: Here, home: Path) -> None:
    with LocalServer("A") as server:
        url = server.llm_v7().base_url
        here("profile", "add", "a", "--base-url", url, "--model", "m", "--no-key")
        env = environment(None, home, MODELSLAB_API_KEY=server.api_key or "")
        assert run("ask", "Hi", env=env).out == "A\n"


@pytest.mark.slow
def test_two_servers_in_the_environment_are_one_too_many(home: Path) -> None:
    with LocalServer() as server:
        env = environment(server, home, MODELSLAB_DEPLOYMENT_ID="d")
        assert run("ask", "Hi", env=env).status == 2
        assert not server.requests


@pytest.mark.slow
def test_a_llama_server_needs_no_key_and_gets_one_that_is_given(here: Here, home: Path) -> None:
    with LocalServer("Yes.", dialect="llama-server") as server:
        url = server.gateway().base_url
        env = environment(None, home, MODELSLAB_API_KEY="for another server")
        env["MODELSLAB_API_KEY"] = "key-for-another-server"
        ask = ["ask", "Hi", "--llama-server", url]
        assert run(*ask, env=env).status == 3  # this server wants its own key
        assert {request.headers.get("authorization") for request in server.requests} == {None}
        key = (server.api_key or "").encode()
        assert run(*ask, "--api-key-file", "-", env=env, stdin=key).out == "Yes.\n"
        assert run("profile", "add", "a", "--llama-server", url, env=env).status == 0
        assert (
            run(
                "profile",
                "add",
                "b",
                "--llama-server",
                url,
                "--api-key-file",
                "-",
                env=env,
                stdin=key,
            ).status
            == 0
        )
        assert run("ask", "Hi", "--profile", "a", env=env).status == 3
        assert run("ask", "Hi", "--profile", "b", env=env).out == "Yes.\n"


# Keys from files


@pytest.mark.parametrize("content", ["KEY\n", "\ufeffKEY\r\n\r\n", "  KEY  "])
def test_a_key_from_a_file(here: Here, tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    with LocalServer("Yes.") as server:
        path.write_text(content.replace("KEY", server.api_key or ""), encoding="utf-8")
        url = server.llm_v7().base_url
        arguments = ["ask", "Hi", "--model", "m", "--base-url", url, "--api-key-file", str(path)]
        assert here(*arguments).out == "Yes.\n"


def test_a_key_from_standard_input(here: Here) -> None:
    with LocalServer("Yes.") as server:
        url = server.llm_v7().base_url
        arguments = ["ask", "Hi", "--model", "m", "--base-url", url, "--api-key-file", "-"]
        assert here(*arguments, stdin=f"{server.api_key}\n".encode()).out == "Yes.\n"
        assert server.requests[0].body["messages"][0]["content"] == "Hi"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "contains no key"),
        (b"two words", "contains a space"),
        ("schlüssel".encode(), "non-ASCII character"),
        (b"\xff\xfe\x00", "it is not text"),
        (b"a-key\n" * 100_000, "a line break"),
    ],
)
def test_a_file_without_a_key_shows_nothing_of_it(
    here: Here, tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    status, _, err = here("ask", "Hi", "--model", "m", "--api-key-file", str(path))
    assert status == 2
    assert said in err
    assert "words" not in err
    assert "schl" not in err
    status, _, err = here("ask", "Hi", "--model", "m", "--api-key-file", str(tmp_path / "none"))
    assert status == 2
    assert "cannot be read" in err


def test_no_option_takes_a_key() -> None:
    """`ps` shows the arguments of every program. `serve` has a key of its own, which is none."""
    from modelslab_llm.cli._commands import modelslab

    def options(command: Any) -> set[str]:
        inner = getattr(command, "commands", {}).values()
        mine = {spelling for param in command.params for spelling in param.opts}
        return mine.union(*map(options, inner))

    taking = {name for name in options(modelslab) if "key" in name}
    assert taking == {"--api-key-file", "--no-key", "--show-key"}


# The key store of the system


def in_store(home: Path, backend: str) -> dict[str, str]:
    env = environment(None, home, PYTHON_KEYRING_BACKEND=f"key_store.{backend}")
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    return env | {"KEY_STORE_FILE": str(home / "store.json")}


@pytest.mark.slow
def test_a_key_goes_to_the_key_store(home: Path, settings: Path) -> None:
    env = in_store(home, "InFile")
    with LocalServer("Yes.") as server:
        url = server.llm_v7().base_url
        add_it = ["profile", "add", "work", "--base-url", url, "--model", "m"]
        key = (server.api_key or "").encode()
        ran = run(*add_it, "--api-key-file", "-", env=env, stdin=key)
        assert ran.status == 0
        assert "its key is in the key store" in ran.err
        assert not (settings / "keys.toml").exists()
        assert json.loads((home / "store.json").read_text()) == {"modelslab work": server.api_key}
        assert run("ask", "Hi", env=env).out == "Yes.\n"
        locked = run("ask", "Hi", env=in_store(home, "Locked"))
        assert locked.status == 2
        assert "unlock it, or use --api-key-file" in locked.err
        assert len(server.requests) == 1
        assert run("profile", "remove", "work", env=env).status == 0
        assert json.loads((home / "store.json").read_text()) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "why"), [("Locked", "KeyringLocked"), ("Forgetful", "it does not store")]
)
def test_a_key_store_that_keeps_nothing(home: Path, settings: Path, backend: str, why: str) -> None:
    ran = run(
        *("profile", "add", "work", "--api-key-file", "-"),
        env=in_store(home, backend),
        stdin=KEY.encode(),
    )
    assert ran.status == 0
    assert f"the key store cannot be used ({why}" in ran.err
    assert KEY not in ran.err
    assert KEY in (settings / "keys.toml").read_text()


def test_without_keyring_a_key_goes_to_the_file(
    here: Here, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "keyring", None)
    ran = add(here, "work")
    assert ran.status == 0
    assert "cannot be used" not in ran.err
    assert KEY in (settings / "keys.toml").read_text()
    (settings / "config.toml").write_text('[profiles.a]\nkey = "keyring"\n')
    for command in ("ask Hi --profile a --model m", "profile remove a"):
        status, _, err = here(*command.split())
        assert status == 2
        assert "pip install keyring" in err


def test_a_key_that_is_gone_says_what_to_do(here: Here, settings: Path) -> None:
    add(here, "work")
    (settings / "keys.toml").unlink()
    status, _, err = here("ask", "Hi", "--model", "m")
    assert status == 2
    assert "modelslab profile add work --replace" in err

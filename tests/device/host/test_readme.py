"""firmware/README.md names what the tables in the code have."""

from pathlib import Path

from brim.core.settings import SETTINGS
from brim.wire.report import STATUSES

README = (Path(__file__).parents[3] / "firmware" / "README.md").read_text()


def test_every_setting_stands_in_the_readme_with_its_default_and_range() -> None:
    for name, default, least, most in SETTINGS:
        assert f"| `{name}` | {default} | {least}..{most} |" in README


def test_every_status_and_verb_stands_in_the_readme() -> None:
    verbs = ("who", "live", "calibrate", "test-uplink", "diagnose", "get", "set", "reboot")
    for word in (*STATUSES, *verbs):
        assert f"`{word}" in README, word


def test_the_firmware_has_the_version_of_the_distribution() -> None:
    from brim.core.console import FIRMWARE

    assert f'version = "{FIRMWARE}"' in (Path(__file__).parents[3] / "pyproject.toml").read_text()

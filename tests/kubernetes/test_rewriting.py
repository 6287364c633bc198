from __future__ import annotations

import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from airflow_imagesync.domain.image_map import ImageMap
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.kubernetes import images_of_manifests, rewrite_manifests
from tests.kubernetes.conftest import Written

EXAMPLES = Path(__file__).parents[2] / "dags" / "examples"
A, B = (f"sha256:{one * 64}" for one in "ab")
NEW = f"r.io/m/app@{A}"
MAP = {"a.io/app:1": NEW}


def pod(image: str, **more: str) -> str:
    rest = "".join(f"    {key}: {value}\n" for key, value in more.items())
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: pod}}\nspec:\n  containers:\n  - image: {image}\n{rest}"


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def example_map() -> ImageMap:
    return ImageMap.load(
        {
            image: image.replace("5001/", "5002/migrated/").rpartition(":")[0] + f"@sha256:{number:064}"
            for number, image in enumerate(images_of_manifests(EXAMPLES))
        }
    )


def test_the_examples_go_to_a_folder_with_only_their_images_changed(tmp_path: Path) -> None:
    known = example_map()
    result = rewrite_manifests(EXAMPLES, known.dump(), tmp_path / "out")
    before, after = tree(EXAMPLES), tree(tmp_path / "out")
    assert list(after) == list(before)
    assert sorted(result.written) == sorted(str(tmp_path / "out" / name) for name in before)
    assert (result.unmapped, result.skipped, len(result.replaced)) == ((), (), 6)
    old = [line for text in before.values() for line in text.decode().splitlines()]
    new = [line for text in after.values() for line in text.decode().splitlines()]
    changed = [(one, other) for one, other in zip(old, new, strict=True) if one != other]
    assert len(changed) == 6
    assert all(
        known.get(image) in new for image in images_of_manifests(EXAMPLES) for old, new in changed if image in old
    )
    assert all("localhost:5002/migrated/shop/" in one for one in images_of_manifests(tmp_path / "out"))
    assert "image: localhost:5001/shop/web:1.4" in after["jobs.yaml"].decode(), "the ConfigMap's text"
    if shutil.which("kubectl"):
        (tmp_path / "out" / "kustomization.yaml").write_text(f"resources: {json.dumps(list(after))}")
        done = subprocess.run(["kubectl", "kustomize", tmp_path / "out"], capture_output=True, text=True)
        assert done.stdout.count("image: localhost:5002/migrated/") == 6, done.stderr


def test_in_place_only_what_changes_is_written_and_a_second_time_nothing(manifests: Written) -> None:
    folder = manifests({"a.yaml": pod("a.io/app:1"), "b.yaml": "a: b\n", "c/d.yaml": pod("b.io/other:1")})
    folder.joinpath("a.yaml").chmod(0o640)
    untouched = folder.joinpath("b.yaml").stat()
    first = rewrite_manifests(folder, ImageMap.load(MAP))
    assert first.written == (str(folder / "a.yaml"),)
    assert first.replaced[0].as_dict() == {"file": "a.yaml", "line": 6, "old": "a.io/app:1", "new": NEW}
    assert [str(one) for one in first.unmapped] == ["b.io/other:1 in c/d.yaml:6 (Pod/pod containers)"]
    assert tree(folder)["a.yaml"].decode() == pod(NEW)
    assert stat.S_IMODE(folder.joinpath("a.yaml").stat().st_mode) == 0o640
    assert folder.joinpath("b.yaml").stat() == untouched

    before = tree(folder)
    second = rewrite_manifests(folder, MAP)
    assert (second.written, second.replaced) == ((), ())
    assert second.unmapped == first.unmapped
    assert tree(folder) == before
    assert json.loads(json.dumps(first.as_dict()))["unmapped"][0]["places"][0]["kind"] == "Pod"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a.io/app:1", NEW),
        ("a.io/app:1\t # comment", f"{NEW}\t # comment"),
        ("'a.io/app:1'", f"'{NEW}'"),
        ('"a.io/app:1"', f'"{NEW}"'),
        ('"a.io\\x2fapp:1"', f'"{NEW}"'),
        ("&x !!str a.io/app:1 # é😀", f"&x !!str {NEW} # é😀"),
        (">-  # a.io/app:1\n      a.io/app:1\n\n    # comment", f">-  # a.io/app:1\n      {NEW}\n\n    # comment"),
        ("|\n      a.io/app:1\n", f"|\n      {NEW}\n"),
        ("\n      a.io/app:1", f"\n      {NEW}"),
        (f"a.io/app:1@{A}", NEW),
        (f"a.io/app@{A}", NEW),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_an_image_is_replaced_as_it_is_written(
    manifests: Written, written: str, expected: str, mark: str, line_end: str
) -> None:
    def text(image: str) -> bytes:
        return (
            (mark + "# é😀\n" + pod(image, env='[{name: "\u2028", value: a.io/app:1}]'))
            .replace("\n", line_end)
            .encode()
        )

    folder = manifests({"a.yaml": text(written)})
    assert len(rewrite_manifests(folder, MAP).replaced) == 1
    assert tree(folder)["a.yaml"] == text(expected)


def test_an_address_that_needs_quotes_gets_them(manifests: Written) -> None:
    folder = manifests({"a.yaml": pod("a.io/app:1")})
    rewrite_manifests(folder, {"a.io/app:1": f"[::1]:5000/app@{A}"})
    assert tree(folder)["a.yaml"].decode() == pod(f'"[::1]:5000/app@{A}"')
    assert images_of_manifests(folder) == [f"[::1]:5000/app@{A}"]


def test_json_keeps_its_form(manifests: Written) -> None:
    text = json.dumps(
        {"apiVersion": "v1", "kind": "Pod", "note": "😀", "spec": {"containers": [{"image": "a.io/app:1"}]}},
        indent="\t",
    )
    folder = manifests({"a.json": text})
    rewrite_manifests(folder, MAP)
    assert tree(folder)["a.json"].decode() == text.replace("a.io/app:1", NEW)


def test_an_image_that_aliases_repeat_is_replaced_at_its_anchor(manifests: Written) -> None:
    text = (
        "apiVersion: v1\nkind: Pod\nspec: {{initContainers: [&c {{image: &i {}}}], "
        "containers: [{{<<: *c, name: d}}, {{image: *i}}]}}\n"
    )
    folder = manifests({"a.yaml": text.format("a.io/app:1")})
    assert len(rewrite_manifests(folder, MAP).replaced) == 1
    assert tree(folder)["a.yaml"].decode() == text.format(NEW)
    spec = yaml.safe_load(tree(folder)["a.yaml"])["spec"]
    assert [one["image"] for one in spec["containers"]] == [NEW, NEW]


def test_what_was_moved_already_is_not_unmapped(manifests: Written) -> None:
    """Also where what is at the destination is a source of something else."""
    folder = manifests(
        {"a.yaml": pod(f"r.io/m/app@{A}"), "b.yaml": pod(f"r.io/m/app@{B}"), "c.yaml": pod("r.io/m/app:1")}
    )
    result = rewrite_manifests(folder, {**MAP, "r.io/m/app:1": f"s.io/app@{A}"})
    assert [one.as_dict() for one in result.replaced] == [
        {"file": "c.yaml", "line": 6, "old": "r.io/m/app:1", "new": f"s.io/app@{A}"}
    ]
    assert result.unmapped == ()


def test_what_can_not_be_mapped_stays_and_is_told(manifests: Written) -> None:
    files: dict[str, str | bytes] = {
        "a.yaml": pod("${IMAGE}") + "---\n" + pod("a.io/app:2") + "---\n" + pod(f"a.io/app:1@{B}"),
        "b.yaml": pod("a.io/app:2"),
        "c.yaml": pod("{{ .Values.image }}"),
        "t.yaml": "{{ if }}\n{{ end }}\n",
    }
    folder = manifests(files)
    result = rewrite_manifests(folder, MAP, folder / "out")
    assert {one.image: [place.file for place in one.places] for one in result.unmapped} == {
        "${IMAGE}": ["a.yaml"],
        f"a.io/app:1@{B}": ["a.yaml"],
        "a.io/app:2": ["a.yaml", "b.yaml"],
        "{{ .Values.image }}": ["c.yaml"],
    }
    assert [one.file for one in result.skipped] == ["t.yaml"]
    assert tree(folder / "out") == {name: str(files[name]).encode() for name in ("a.yaml", "b.yaml", "c.yaml")}


def test_an_output_within_the_folder_is_not_read_again(manifests: Written) -> None:
    folder = manifests({"a.yaml": pod("a.io/app:1")})
    for _ in range(2):
        result = rewrite_manifests(folder, MAP, folder / "out")
        assert result.written == (str(folder / "out" / "a.yaml"),)
    assert rewrite_manifests(folder, {}, folder).written == (), "the same folder is in place"


def test_one_file_goes_to_the_folder(manifests: Written, tmp_path: Path) -> None:
    folder = manifests({"a.yaml": pod("a.io/app:1")})
    result = rewrite_manifests(folder / "a.yaml", MAP, str(tmp_path / "out" / "deep"))
    assert result.written == (str(tmp_path / "out" / "deep" / "a.yaml"),)
    assert tree(folder)["a.yaml"].decode() == pod("a.io/app:1")


def test_a_link_stays_a_link(manifests: Written) -> None:
    folder = manifests({".real/a.yaml": pod("a.io/app:1")})
    (folder / "a.yaml").symlink_to(".real/a.yaml")
    rewrite_manifests(folder, MAP)
    assert (folder / "a.yaml").is_symlink()
    assert (folder / "a.yaml").read_text() == pod(NEW)


def test_nothing_is_written_when_something_can_not_be(manifests: Written, tmp_path: Path) -> None:
    folder = manifests({"a.yaml": pod("a.io/app:1"), "b/c.yaml": pod("a.io/app:1")})
    out = tmp_path / "out"
    out.mkdir()
    (out / "b").write_text("in the way")
    with pytest.raises(ConfigError, match=r"can't write .*c\.yaml"):
        rewrite_manifests(folder, MAP, out)
    assert tree(out) == {"b": b"in the way"}
    with pytest.raises(ConfigError, match=r"the output .* is no folder"):
        rewrite_manifests(folder, MAP, out / "b")


def test_a_bad_map_or_place_is_told_before_anything_is_written(manifests: Written) -> None:
    folder = manifests({"a.yaml": pod("a.io/app:1"), "b.yaml": "a: [\n"})
    before = tree(folder)
    with pytest.raises(ConfigError, match="has no digest"):
        rewrite_manifests(folder, {"a.io/app:1": "r.io/app:1"})
    with pytest.raises(ConfigError, match=r"b\.yaml:2: not YAML"):
        rewrite_manifests(folder / "b.yaml", MAP)
    with pytest.raises(ConfigError, match="there is no file or folder"):
        rewrite_manifests(folder / "gone", MAP)
    assert tree(folder) == before

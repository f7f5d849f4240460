"""Pictures of the gallery: only checked PNG files of its own folder are shown."""

import pytest
from report_pages import ParsedPage, record, write_gallery

from dtr1_jax.report import gallery, page


@pytest.mark.parametrize(
    "name, word",
    [
        ("../secret.png", "outside"),
        ("/etc/passwd", "outside"),
        ("..", "outside"),
        ("sub/0.png", "outside"),
        ("..\\secret.png", "outside"),
        ("link.png", "outside"),
        ("a\0.png", "outside"),
        ("none.png", "missing"),
        ("x" * 5000, "missing"),
        ("text.png", "not a PNG"),
        ("large.png", "too large"),
        (7, "none"),
        ("", "none"),
        (None, "none"),
    ],
)
def test_pictures_that_are_not_shown(tmp_path, name, word):
    folder = write_gallery(tmp_path, "after", [record(pictures={"image": name})])
    (tmp_path / "gallery" / "secret.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "link.png").symlink_to(tmp_path / "gallery" / "secret.png")
    (folder / "text.png").write_text("<svg onload=alert(1)>")
    with open(folder / "large.png", "wb") as f:
        f.truncate(gallery.MAX_PICTURE + 1)
    parsed = ParsedPage(page.build(tmp_path))
    assert parsed.count("img") == 0 and word in parsed.text

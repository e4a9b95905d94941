"""The README's first five minutes do what they say."""

import re
from pathlib import Path

from conftest import URI

README = Path(__file__).parents[3] / "README.md"


def test_the_first_five_minutes(client):
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL).group(1)
    assert "http://localhost:19530" in code
    try:
        exec(code.replace("http://localhost:19530", URI), {})
        left = client.query(
            "books", filter="id > 0", output_fields=["title"], consistency_level="Strong"
        )
        assert [row["title"] for row in left] == ["Emma", "Solaris"]
    finally:
        client.drop_collection("books")

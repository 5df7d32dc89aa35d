"""Files inside of a page, so that it needs no others."""

import base64


def data_url(kind: str, contents: bytes) -> str:
    """The address that is the contents of a file.

    Args:
      kind: its MIME type, such as image/png.
      contents: of the file.
    """
    return f"data:{kind};base64,{base64.b64encode(contents).decode()}"

"""How the things in ``notify.toml`` and the environment may be called.

Names become parts of Redis keys, of lanes (``<sender>.mms``) and of scopes (``sender:<name>``), and a value of over 64
bytes would quadruple the record that holds it. So: no dot, no colon, no blank, and short.
"""

import re

NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
NAME_RULE = "1 to 40 letters, digits, `_` or `-`"

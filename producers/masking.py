"""Make phone numbers safe to show.

A number in a log says whom we texted, and logs travel further than anybody plans. So whatever shows a number shows
its mask: enough to recognise one's own, too little to text anybody.
"""

import re

# `%2B` is how a plus sign looks in a URL, and URLs end up in access logs. More than 15 digits are no phone number,
# but hiding them costs nothing, and half of them might be one.
_NUMBER = re.compile(r"(?:\+|%2[Bb])(\d{8,})")


def mask(number: str) -> str:
    """Mask one number (or another address of a person): ``+13125550001`` becomes ``+1312***0001``.

    Shorter ones keep less, so that at least three characters are always hidden; below eight nothing is shown.
    """
    if len(number) >= 12:
        return f"{number[:5]}***{number[-4:]}"
    if len(number) >= 8:
        return f"{number[:3]}***{number[-2:]}"
    return "***"


def mask_all(text: str) -> str:
    """Mask every phone number inside ``text``: a plus sign (also as ``%2B``) and eight or more digits."""
    return _NUMBER.sub(lambda found: mask("+" + found[1]), text)

"""Recognise STOP, START and HELP where Telnyx has not done it for us: on WhatsApp, in words of our own, in other languages. Pure.

Telnyx's ``autoresponse_type`` is authoritative where it is there. Invariants, each with a test:

- Only a whole message is a keyword; "please stop the car" is not.
- A STOP is read generously and a START strictly: who misreads a STOP texts a person who said no.
- STOP wins over every other reading of the same words.

Sources: developers.telnyx.com, "Advanced opt-in and opt-out"; support.telnyx.com, "SMS opt-out keywords"; for REVOKE and
OPT OUT, 47 CFR 64.1200(a)(10), which names the words that a sender must honour in a reply; ARRET and AIDE, the Canadian short
code guidelines of the CWTA.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Literal

Keyword = Literal["STOP", "START", "HELP"]

# Compared without case, accents and punctuation. English first, then Spanish, then French: what people of the US and Canada
# write, and what a sender of theirs is expected to read.
STOP = frozenset({
    "stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit", "revoke", "opt out", "optout",
    "alto", "parar", "para", "pare", "detener", "detente", "cancelar", "cancela", "cancele", "baja", "darme de baja",
    "dar de baja", "darse de baja", "terminar", "salir", "basta", "no mas", "borrar", "eliminar", "fin",
    "arret", "arreter", "arretez", "arrete", "stopper", "annuler", "desabonner", "desabonnement", "se desabonner",
    "desinscrire", "desinscription", "desinscrivez moi", "quitter", "terminer", "retirer",
})  # fmt: skip
START = frozenset({
    "start", "unstop",
    "iniciar", "inicio", "empezar", "comenzar", "reanudar", "suscribir", "suscribirme",
    "commencer", "demarrer", "debuter", "reprendre", "abonner", "reabonner", "m abonner",
})  # fmt: skip
HELP = frozenset({"help", "info", "ayuda", "informacion", "aide", "information", "informations"})

LONGEST = 80  # characters of a message that may still be a keyword; longer ones are prose, and not looked at
_QUESTION = frozenset("?¿？؟")
_ACCENTS = re.compile("[\u0300-\u036f]+")  # of Latin, Greek and Cyrillic; the vowels of other scripts are no accents


def match(text: str, *, profile_keywords: Mapping[str, Iterable[str]] | None = None) -> Keyword | None:
    """What ``text``, a whole inbound message, asks for; None if it is no keyword.

    Args:
        profile_keywords: Further words by ``STOP``, ``START`` and ``HELP``, as a messaging profile has them. They add to
            the built-in ones, which cannot be moved.
    """
    if len(text) > LONGEST:
        return None
    said = normalise(text)
    if not said:
        return None
    more = {kind: {normalise(word) for word in words} for kind, words in (profile_keywords or {}).items()}
    words = said.split()
    spoken = {said, words[0]} if len(set(words)) == 1 else {said}  # "stop stop stop"
    if spoken & (STOP | more.get("STOP", set())):
        return "STOP"
    # "start?" asks what would happen; to lift an opt-out takes a plain yes.
    if said in START | more.get("START", set()) and not _QUESTION & set(text):
        return "START"
    if said in HELP | more.get("HELP", set()):
        return "HELP"
    return None


def normalise(text: str) -> str:
    """``text`` caseless, without accents, in one spelling, its words parted by single blanks, free of punctuation and emoji."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    plain = unicodedata.normalize("NFC", _ACCENTS.sub("", plain))
    return " ".join("".join(_kept(character) for character in plain).split())


def _kept(character: str) -> str:
    if _is_invisible(character):
        return ""
    return character if unicodedata.category(character)[0] in "LNM" else " "


def _is_invisible(character: str) -> bool:
    """Joiners, direction marks, variation selectors: they come with emoji and with copied text."""
    return unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f" or character == "\u20e3"

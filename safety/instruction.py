"""G1: may this instruction be given to a policy at all? A pure function of the text and of the customer's policy; no model call.

It reads words, not the scene. Paraphrase, other languages than English, several requests in one sentence and text inside pictures
get past a deny-list, so "no match" is never a score. Only an allow-list promises anything: nothing outside it reaches the policy.
"""

import re
import tomllib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources

CHARS_MAX = 512
TEMPLATES_MAX = 200
SLOTS_MAX = 8
WORDS_BETWEEN_MAX = 4
_SLOT = re.compile(r"\{([a-z_]+)\}")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
# Letters of other alphabets that look like Latin ones; NFKC leaves them as they are. Capitals first: Η looks like H, η like n.
_CAPITALS = str.maketrans("АВЕЅІЈКМНОРСТУХԌԚԜҮӀΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABESIJKMHOPCTYXGQWYIABEZHIKMNOPTYX")
_LOOKALIKES = str.maketrans(
    "асеорхуікѕԁһјӏԛԝѵгпьмнтвտացհոսօνορτυικαβεηγωχσıłøđħɑɡɩɪʀɴʟᴀᴄᴅᴇᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢ",
    "aceopxyiksdhjlqwvrnbmhtbtwghnuovoptuikabenywxoilodhagiirnlacdejkmoptuvwz",
)
_UNSEEN_LETTERS = str.maketrans("", "", "\u115f\u1160")  # Hangul fillers: letters to Unicode, nothing to the eye
_PLAIN = frozenset(" \t\r\n.,;:!?'’\"()-/&+%")


class InstructionMode(StrEnum):
    """How an instruction is judged."""

    ALLOW_LIST = "allow_list"
    DENY_LIST = "deny_list"
    OFF = "off"


class Category(StrEnum):
    """What a deny rule is about. The first can not be switched off."""

    HARM_TO_PEOPLE = "harm_to_people"
    HARM_TO_ANIMALS = "harm_to_animals"
    WEAPONS = "weapons"
    FIRE_HEAT_ELECTRICITY = "fire_heat_electricity"
    POISON = "poison"
    DISABLING_GUARDS = "disabling_guards"
    THEFT_SURVEILLANCE = "theft_surveillance"
    THROWING = "throwing"
    BEYOND_EMBODIMENT = "beyond_embodiment"


class InstructionPolicyError(Exception):
    """An instruction policy that cannot be used; `fault` says why."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        super().__init__(fault)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionPolicy:
    """`templates` such as "put {thing} into {place}" with `slots` ("thing", ("red cube", …)) for allow_list.

    `off_categories` are the deny categories that the customer switched off. Raises InstructionPolicyError.
    """

    mode: InstructionMode
    templates: tuple[str, ...] = ()
    slots: tuple[tuple[str, tuple[str, ...]], ...] = ()
    off_categories: frozenset[Category] = frozenset()

    def __post_init__(self) -> None:
        if Category.HARM_TO_PEOPLE in self.off_categories:
            raise InstructionPolicyError("harm_to_people cannot be switched off")
        if (self.mode is InstructionMode.ALLOW_LIST) != bool(self.templates):
            raise InstructionPolicyError("templates are needed for allow_list, and only there")
        if len(self.templates) > TEMPLATES_MAX:
            raise InstructionPolicyError(f"more than {TEMPLATES_MAX} templates")
        known = {name for name, phrases in self.slots if phrases}
        if odd := [phrase for _, phrases in self.slots for phrase in phrases if not plain_words(phrase)]:
            raise InstructionPolicyError(f"{odd[0]!r}: only letters, digits, spaces and common punctuation can be matched")
        for template in self.templates:
            used = _SLOT.findall(template)
            if (
                len(used) > SLOTS_MAX
                or not set(used) <= known
                or "{" in _SLOT.sub("", template)
                or not plain_words(_SLOT.sub("x", template))
            ):
                raise InstructionPolicyError(f"{template!r}: at most {SLOTS_MAX} slots, each with phrases")


class InstructionStatus(StrEnum):
    """How an instruction came out."""

    ALLOWED = "allowed"  # an allow-list has it
    NO_MATCH = "no_match"  # a deny-list has nothing against it, which is not evidence that it is harmless
    OFF = "off"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionVerdict:
    """G1's answer. Never a score: `rule` and `category` say what matched, `list_version` in which list."""

    status: InstructionStatus
    rule: str | None = None
    category: Category | None = None
    list_version: str | None = None

    @property
    def is_refused(self) -> bool:
        """True when the policy must not be called."""
        return self.status is InstructionStatus.REFUSED


@dataclass(frozen=True, slots=True, kw_only=True)
class DenyRule:
    """A word or phrase of `first`, and, unless `then` is empty, one of `then` at most four words later."""

    id: str
    category: Category
    first: tuple[str, ...]
    then: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DenyList:
    """The shipped list (English)."""

    version: str
    rules: tuple[DenyRule, ...]


def load_deny_list() -> DenyList:
    """Reads `safety/deny_list.toml`. Read it once, at start."""
    table = tomllib.loads(resources.files("safety").joinpath("deny_list.toml").read_text(encoding="utf-8"))
    rules = (
        DenyRule(id=row["id"], category=Category(row["category"]), first=tuple(row["first"]), then=tuple(row.get("then", ())))
        for row in table["rules"]
    )
    return DenyList(version=f"{table['language']}-{table['version']}", rules=tuple(rules))


def plain_words(text: str) -> str | None:
    """Case, spaces and common punctuation aside, the text itself; None when it holds anything that a reader would not expect.

    For allow-lists: an invisible, look-alike or pictured character would reach the policy, so it must not pass for a template's.
    """
    same = unicodedata.normalize("NFKC", text)
    if not all(char.isalnum() or char in _PLAIN for char in same) or same != same.translate(_UNSEEN_LETTERS):
        return None
    return " ".join(_WORD.findall(same.casefold().replace("’", "'")))


def normalised(text: str) -> str:
    """NFKC, case folded, no invisible characters or accents, look-alike letters made Latin, only words and single spaces."""
    seen = unicodedata.normalize("NFKC", text).translate(_CAPITALS).translate(_UNSEEN_LETTERS)
    folded = unicodedata.normalize("NFKD", seen.casefold()).translate(_LOOKALIKES)
    kept = (char for char in folded if unicodedata.category(char) not in {"Cf", "Mn", "Cc"} or char in "\t\n\r")
    return " ".join(_WORD.findall("".join(kept).replace("’", "'")))


class InstructionCheck:
    """Judges instructions by every policy in force. Immutable; build it once per set of policies."""

    def __init__(self, policies: Sequence[InstructionPolicy], deny_list: DenyList) -> None:
        self._policies = tuple(policies)
        self._deny_list = deny_list
        self._templates = tuple(_segments(policy) for policy in self._policies)

    def judge(self, text: object) -> InstructionVerdict:
        """The strictest answer of all policies. What is no text of at most 512 characters is refused. Never raises."""
        if not isinstance(text, str) or len(text) > CHARS_MAX:
            return InstructionVerdict(status=InstructionStatus.REFUSED, rule="not_a_short_text")
        words, status, version = normalised(text), InstructionStatus.OFF, None
        for policy, templates in zip(self._policies, self._templates, strict=True):
            if policy.mode is InstructionMode.ALLOW_LIST:
                plain = plain_words(text)
                if plain is None or not any(_fits(plain, segments) for segments in templates):
                    return InstructionVerdict(status=InstructionStatus.REFUSED, rule="not_on_the_allow_list")
                status = InstructionStatus.ALLOWED
            elif policy.mode is InstructionMode.DENY_LIST:
                version = self._deny_list.version
                if (rule := self._denied(words, policy)) is not None:
                    return InstructionVerdict(
                        status=InstructionStatus.REFUSED, rule=rule.id, category=rule.category, list_version=version
                    )
                status = InstructionStatus.NO_MATCH if status is InstructionStatus.OFF else status
        return InstructionVerdict(status=status, list_version=version)

    def _denied(self, words: str, policy: InstructionPolicy) -> DenyRule | None:
        found = (rule for rule in self._deny_list.rules if rule.category not in policy.off_categories and _matches(words, rule))
        return next(found, None)


def _matches(words: str, rule: DenyRule) -> bool:
    padded = f" {words} "
    for phrase in rule.first:
        start = padded.find(f" {phrase} ")
        while start >= 0:
            after = padded[start + len(phrase) + 1 :].split()[: WORDS_BETWEEN_MAX + 3]
            if not rule.then or any(_is_within(after, then) for then in rule.then):
                return True
            start = padded.find(f" {phrase} ", start + 1)
    return False


def _is_within(words: list[str], phrase: str) -> bool:
    wanted = phrase.split()
    last = min(WORDS_BETWEEN_MAX, len(words) - len(wanted))
    return any(words[at : at + len(wanted)] == wanted for at in range(last + 1))


def _segments(policy: InstructionPolicy) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Each template as a sequence of alternatives, as `plain_words` has them."""
    slots = {name: tuple(plain_words(phrase) or "" for phrase in phrases) for name, phrases in policy.slots}
    return tuple(
        tuple(slots[part] if is_slot else (plain_words(part) or "",) for part, is_slot in _parts(template))
        for template in policy.templates
    )


def _parts(template: str) -> list[tuple[str, bool]]:
    pieces = _SLOT.split(template)  # literal, slot, literal, slot, …, literal
    return [(piece, index % 2 == 1) for index, piece in enumerate(pieces) if index % 2 == 1 or plain_words(piece)]


def _fits(words: str, segments: tuple[tuple[str, ...], ...]) -> bool:
    """Follows all ways through the template at once, so that no text makes it slow."""
    ends = {0}
    for alternatives in segments:
        ends = {end + len(phrase) + 1 for end in ends for phrase in alternatives if f"{words} ".startswith(f"{phrase} ", end)}
    return len(words) + 1 in ends

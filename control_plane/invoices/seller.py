"""Who sends the invoices: a TOML file that the setting names. What it says is copied into every invoice when it is finalized.

Raises SettingsError listing what is wrong. Without a file there is a stand-in that says so on the invoice itself.
"""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from control_plane.settings import SettingsError, variable

_NAME = variable("seller_file")
_LOGOS = {".png", ".jpg", ".jpeg"}


class Seller(BaseModel):
    """The company. `legal_entity` owns the sequence of numbers: once invoices are out, it stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    address: tuple[str, ...] = Field(default=(), max_length=6)
    vat_id: str | None = Field(default=None, max_length=50)
    email: str | None = Field(default=None, max_length=254)
    bank: tuple[str, ...] = Field(default=(), max_length=6)
    footer: str | None = Field(default=None, max_length=300)
    legal_entity: str = Field(default="main", pattern="^[a-z0-9-]{1,30}$")
    number_prefix: str = Field(default="INV-", pattern="^[A-Z0-9-]{0,12}$")
    credit_note_prefix: str = Field(default="CN-", pattern="^[A-Z0-9-]{0,12}$")
    payment_days: int = Field(default=14, ge=0, le=365)
    accent: str = Field(default="#1f4e79", pattern="^#[0-9a-fA-F]{6}$")
    logo: Path | None = None

    def as_json(self) -> dict[str, object]:
        """What an invoice keeps; how it looks is not part of it."""
        return self.model_dump(mode="json", include={"name", "address", "vat_id", "email", "bank", "footer"})


STAND_IN = Seller(name="vlaapi", address=("(no seller is set: VLA_SELLER_FILE)",))


def load_seller(path: Path | None) -> Seller:
    """The seller in that file; a logo's path is relative to it."""
    if path is None:
        return STAND_IN
    try:
        seller = Seller.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{_NAME}: {path}: {error}") from None
    except ValidationError as error:
        faults = [f"{_NAME}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_input=False)]
        raise SettingsError("\n".join(faults)) from None
    if seller.logo is None:
        return seller
    logo = path.parent / seller.logo
    if logo.suffix.lower() not in _LOGOS or not logo.is_file():
        raise SettingsError(f"{_NAME}: logo: {logo} is not a PNG or JPEG file")
    return seller.model_copy(update={"logo": logo})

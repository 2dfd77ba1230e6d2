"""How changes to the directory merge into one record per account."""

import msgspec

from shared.messages import AccountFields, DirectoryChange


def merge(known: AccountFields | None, change: DirectoryChange) -> AccountFields:
    """The account's fields after the change.

    `put` replaces everything; `patch` keeps what the change does not name and clears `cleared`.
    """
    if change.op == "put" or known is None:
        return change.fields
    named = {
        name: value
        for name, value in msgspec.structs.asdict(change.fields).items()
        if value is not None
    }
    cleared = dict.fromkeys(
        name for name in change.cleared if name in AccountFields.__struct_fields__
    )
    return msgspec.structs.replace(known, **(cleared | named))

"""The handlers of the directory: accounts one by one or many at once, and what is to be erased."""

from urllib.parse import parse_qs, unquote_to_bytes

from services.ingest import account_rows, directory, erasure
from services.ingest.admission import Admitted, Request
from services.ingest.answers import answer_each
from services.ingest.directory import DirectorySubmission, Operation
from services.ingest.envelope import is_lines
from services.ingest.handlers import Desk
from services.ingest.inflight import Held
from services.ingest.quarantine import Origin
from services.ingest.replies import RefusalCode, Refused, Reply
from services.ingest.results import Decoded
from services.ingest.wire import FormatName, bearer_key
from shared.credentials import Scope
from shared.messages import WriteKey

ACCOUNTS = b"/v1/accounts/"
USERS = b"/v1/users/"


class AccountHandlers:
    """Changes to the directory."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def put(self, request: Request, held: Held) -> Reply:
        return await self._change_one(request, held, "put")

    async def patch(self, request: Request, held: Held) -> Reply:
        return await self._change_one(request, held, "patch")

    async def post(self, request: Request, held: Held) -> Reply:
        operation = _operation(request.query)
        content_type = request.headers.get(b"content-type")
        is_csv = account_rows.is_csv(content_type)
        admitted = await self._admit(request, held, Scope.ACCOUNTS_WRITE)
        submission = DirectorySubmission(
            source=admitted.key.source,
            received_at=admitted.received_at,
            trace=request.trace,
            operation=operation,
            lines=is_lines(content_type),
        )
        decode = account_rows.decode if is_csv else directory.decode
        decoded = decode(admitted.body, self._desk.directory_rules, submission)
        origin = _origin(request, admitted, operation=operation, is_csv=is_csv)
        return await self._publish(request, held, admitted.key, decoded, origin)

    async def delete(self, request: Request, held: Held) -> Reply:
        admitted = await self._admit(request, held, Scope.ERASE)
        decoded = erasure.erase_account(
            _text(id_in_path(request.raw_path, ACCOUNTS)),
            source=admitted.key.source,
            received_at=admitted.received_at,
            trace=request.trace,
        )
        return await self._publish(request, held, admitted.key, decoded)

    async def delete_user(self, request: Request, held: Held) -> Reply:
        account = _only_account(request.query)
        admitted = await self._admit(request, held, Scope.ERASE)
        decoded = erasure.erase_user(
            _text(id_in_path(request.raw_path, USERS)),
            account,
            hash_user=self._desk.event_rules.hash_user,
            source=admitted.key.source,
            received_at=admitted.received_at,
            trace=request.trace,
        )
        return await self._publish(request, held, admitted.key, decoded)

    async def _change_one(self, request: Request, held: Held, operation: Operation) -> Reply:
        admitted = await self._admit(request, held, Scope.ACCOUNTS_WRITE)
        account = _text(id_in_path(request.raw_path, ACCOUNTS))
        submission = DirectorySubmission(
            source=admitted.key.source,
            received_at=admitted.received_at,
            trace=request.trace,
            operation=operation,
        )
        decoded = directory.decode_one(
            admitted.body, account, self._desk.directory_rules, submission
        )
        origin = _origin(request, admitted, operation=operation, addressed=account)
        return await self._publish(request, held, admitted.key, decoded, origin)

    async def _admit(self, request: Request, held: Held, scope: Scope) -> Admitted:
        return await self._desk.admission.admit(
            request, scope, held, token=bearer_key(request.headers)
        )

    async def _publish(
        self,
        request: Request,
        held: Held,
        key: WriteKey,
        decoded: Decoded,
        origin: Origin | None = None,
    ) -> Reply:
        return await self._desk.publish(
            key,
            decoded,
            held,
            wire_format=FormatName.DIRECTORY,
            answer=lambda decoded: answer_each(decoded, request.request_id),
            origin=origin,
        )


def _origin(
    request: Request,
    admitted: Admitted,
    *,
    operation: Operation,
    addressed: str | None = None,
    is_csv: bool = False,
) -> Origin:
    return Origin(
        format=FormatName.DIRECTORY,
        source=admitted.key.source,
        request_id=request.request_id,
        trace=request.trace,
        received_at=admitted.received_at,
        operation=operation,
        addressed=addressed,
        is_csv=is_csv,
    )


def id_in_path(raw_path: bytes, prefix: bytes) -> bytes:
    """The id behind `prefix` in a path as it was sent: ids may hold `/`, as such or as %2F."""
    if not raw_path.startswith(prefix):
        return b""
    return raw_path[len(prefix) :].removesuffix(b"/")


def _text(raw: bytes) -> str:
    # Bytes that are no UTF-8 become what the id's own rule refuses.
    return unquote_to_bytes(raw).decode("utf-8", "surrogateescape")


def _operation(query: bytes) -> Operation:
    match _parameters(query).get("mode"):
        case None | ["patch"]:
            return "patch"
        case ["put"]:
            return "put"
        case _:
            raise Refused(RefusalCode.INVALID_ENVELOPE, "mode: must be patch or put")


def _only_account(query: bytes) -> str | None:
    """The account that an erasure is limited to; None is all of them."""
    parameters = _parameters(query)
    stated = parameters.pop("account_id", None)
    # A parameter that is spelled wrongly must not widen what is erased for good.
    if parameters or (stated is not None and len(stated) > 1):
        raise Refused(RefusalCode.INVALID_ENVELOPE, "one account_id is all that may be said here")
    return None if stated is None else stated[0]


def _parameters(query: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(query.decode(), keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError as error:
        raise Refused(RefusalCode.INVALID_ENVELOPE, "the query cannot be read") from error

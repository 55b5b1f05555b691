"""One storage account's tables as the store uses them: rows whose body may lie in pieces or in a blob, and batches of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from azure.core import MatchConditions
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from guardrail.errors import Malformed
from guardrail.stores import rows
from guardrail.stores.account import Account, Refused

if TYPE_CHECKING:
    from guardrail.stores.blobs import Bodies

Row = Mapping[str, Any]


class Tables:
    """`bodies`: address of the container for what is too large for a row, "" for none."""

    def __init__(self, address: str, account: Account, bodies: str) -> None:
        self._account, self._bodies_at = account, bodies
        self._service = TableServiceClient(address, **account.options(address))
        self._clients = dict[str, TableClient]()
        self._made: Bodies | None = None

    def _table(self, name: str) -> TableClient:
        if name not in self._clients:
            self._clients[name] = self._service.get_table_client(name)
        return self._clients[name]

    async def create(self, name: str) -> None:
        await self._account.ask(lambda: self._service.create_table_if_not_exists(name))

    async def get(self, table: str, partition: str, row: str) -> Row | None:
        try:
            return await self._account.ask(lambda: self._table(table).get_entity(partition, row))
        except Refused:
            return None

    async def query(self, table: str, text: str, select: list[str] | None = None, **values: Any) -> AsyncIterator[Row]:
        """By partition and row key. Values never stand in the text: the SDK quotes them."""
        pages = self._table(table).query_entities(text, parameters=values, select=select).by_page()
        while True:
            try:
                page = await self._account.ask(lambda: anext(pages))
            except StopAsyncIteration:
                return
            async for row in page:
                yield row

    async def body(self, row: Row) -> bytes:
        """Errors: Held if its blob is not there, Malformed."""
        if "blob" in row:
            return rows.inflated(await self._bodies.get(str(row["blob"])))
        return rows.unpacked(row)

    async def write(self, table: str, batch: Sequence[tuple[dict[str, Any], str]]) -> list[str]:
        """Rows with the ETags that they replace ("": none is there), all or none; their new ETags. Errors: Refused."""
        entities = [entity for entity, _ in batch]
        while sum(map(rows.size, entities)) > rows.BATCH_BYTES:
            await self._bodies.put(*rows.outside(max(entities, key=rows.size)))
        written: list[Any] = [
            ("update", entity, {"mode": UpdateMode.REPLACE, **unless_changed(etag)}) if etag else ("create", entity)
            for entity, etag in batch]
        answers = await self._account.ask(lambda: self._table(table).submit_transaction(written))
        return [str(answer["etag"]) for answer in answers]

    async def merge(self, table: str, row: dict[str, Any]) -> None:
        """Over whatever stands there now; its other fields stay."""
        await self._account.ask(lambda: self._table(table).upsert_entity(row, mode=UpdateMode.MERGE))

    async def change(self, table: str, row: Row, **fields: Any) -> None:
        """Some fields of a row, or nothing if it was written meanwhile."""
        entity = {"PartitionKey": row["PartitionKey"], "RowKey": row["RowKey"], **fields}
        try:
            await self._account.ask(lambda: self._table(table).update_entity(
                entity, mode=UpdateMode.MERGE, **unless_changed(etag_of(row))))
        except Refused:
            return

    async def remove(self, table: str, row: Row) -> None:
        """Unless it was written meanwhile."""
        try:
            await self._account.ask(lambda: self._table(table).delete_entity(
                row["PartitionKey"], row["RowKey"], **unless_changed(etag_of(row))))
        except Refused:
            return

    @property
    def _bodies(self) -> Bodies:
        if self._made is None:
            from guardrail.stores.blobs import Bodies

            if not self._bodies_at:
                raise Malformed("a row is too large, and there is no container for it")
            self._made = Bodies(self._account, self._bodies_at)
        return self._made


def etag_of(row: Row | None) -> str:
    found: Any = row
    return "" if row is None else str(found.metadata["etag"])


def unless_changed(etag: str) -> dict[str, Any]:
    return {"etag": etag, "match_condition": MatchConditions.IfNotModified}

"""Money moves between accounts: rows that two processes often want at once."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pykesto

from .workload import Said, Step


class Bank:
    """Money moves between accounts; none appears or vanishes."""

    ACCOUNTS, START = 16, 1000

    def __init__(self) -> None:
        self.balances = [self.START] * self.ACCOUNTS
        self.versions: dict[int, int] = {}

    @staticmethod
    def create(s: pykesto.Session) -> None:
        for number in range(Bank.ACCOUNTS):
            s.table("accounts")[number] = {"balance": Bank.START}

    @staticmethod
    def choose(chance: random.Random) -> Said:
        giver, taker = chance.sample(range(Bank.ACCOUNTS), 2)
        return {"giver": giver, "taker": taker, "amount": chance.randint(1, 100)}

    @staticmethod
    def act(s: pykesto.Session, step: Step, said: Said) -> None:
        accounts = s.table("accounts")
        accounts[said["giver"]]["balance"] -= said["amount"]
        accounts[said["taker"]]["balance"] += said["amount"]

    @staticmethod
    def glance(s: pykesto.Session) -> Iterator[str]:
        balances = [row["balance"] for row in s.table("accounts").range()]
        if len(balances) != Bank.ACCOUNTS or sum(balances) != Bank.ACCOUNTS * Bank.START:
            yield f"bank: {len(balances)} accounts hold {sum(balances)}, not {Bank.ACCOUNTS * Bank.START}"

    def play(self, step: Step, said: Said, version: int) -> Iterator[str]:
        self.balances[said["giver"]] -= said["amount"]
        self.balances[said["taker"]] += said["amount"]
        self.versions |= {said["giver"]: version, said["taker"]: version}
        yield from ()

    def compare(self, s: pykesto.Session) -> Iterator[str]:
        for row in s.table("accounts").range():
            number, found = row.k_key, row["balance"]
            if found != self.balances[number]:
                yield f"bank: account {number} holds {found}, its transfers add up to {self.balances[number]}"
            if row.k_version != self.versions.get(number, row.k_version):
                last = self.versions[number]
                yield f"bank: account {number} is of commit {row.k_version}, its last transfer of {last}"

"""Money moves between accounts: rows that two processes often want at once."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pykesto

from .workload import Model, Said, Step


class Bank(Model):
    """Money moves between accounts; none appears or vanishes."""

    ACCOUNTS, START = 16, 1000

    def __init__(self) -> None:
        super().__init__("accounts")

    @staticmethod
    def create(s: pykesto.Session, size: int) -> None:
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
        for account, amount in ((said["giver"], -said["amount"]), (said["taker"], said["amount"])):
            self.change(account, version, balance=self.rows[account][0]["balance"] + amount)
        yield from ()

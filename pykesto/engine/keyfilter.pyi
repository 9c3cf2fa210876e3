from typing import final

@final
class KeyFilter:
    added: int
    def __init__(self) -> None: ...

import pykesto


class Person(pykesto.Persistent):
    name: str = pykesto.field(index=True)
    age: int = 0


db = pykesto.open("app.kesto")


@db.transactional
def birthday(s, name):
    for person in s.query(Person).where(Person.name == name):
        person.age += 1
    return s.query(Person).where(Person.age > 40).count()


with db.transaction() as s:
    s.add(Person(name="Ann", age=40))
print(birthday("Ann"), "people are older than 40")

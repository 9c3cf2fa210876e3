import pykesto


class Person(pykesto.Persistent):
    name: str


def birthday(s):
    s.add(Person(name="Ann")).age = 40
    for person in s.query(Person).where(Person.name == "Ann"):
        person.age += 1
    return s.query(Person).count()


db = pykesto.open("app.kesto")
print(db.run(birthday), "people are a year older")

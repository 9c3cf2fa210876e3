# The objects of one session: identity, loading, and packing.

@cython.final
cdef class Reference:
    """Gives the codec the id of an object; what a session packs is added to it on the way."""

    cdef Space space

    def __init__(self, Space space):
        self.space = space

    def __call__(self, value):
        if not isinstance(value, Stored):
            return None
        cdef Stored obj = <Stored>value
        if self.space is None:
            return obj._k_key
        if obj._k_space is not self.space or obj._k_state == deleted_:
            self.space.reached(obj)
        return obj._k_key


cdef class Space:
    """The objects of one session. What is not hot is in `space.ObjectSpace`."""

    cdef public object _session
    cdef public object _catalog
    cdef public dict _changed  # id -> object, held until the session ends
    cdef public dict _sent  # id -> packed row, of what a commit may have merged with others
    cdef dict _known  # id -> weak reference
    cdef Py_ssize_t sweep_at
    cdef Session session
    cdef set keys  # of the objects that this epoch of the session read
    cdef long keys_epoch
    cdef list shells, kinds, layouts
    cdef dict columns, current
    cdef public long epoch
    cdef public long loads  # objects that were read one by one, because they were touched
    cdef public object loads_max
    cdef public Py_ssize_t cache_bytes  # how much of what was read is held on to
    cdef Py_ssize_t cached
    cdef object cache
    cdef readonly object reference  # for the codec: gives an object's id, and adds the object
    cdef bint may_name  # whether new names may be given numbers
    cdef str table_name

    def __init__(self, session, catalog, str table):
        self._session, self._catalog, self.table_name = session, catalog, table
        self.session, self.keys_epoch = session, -1
        self._changed, self._known, self._sent = {}, {}, {}
        self.sweep_at = 1024
        self.shells, self.layouts, self.columns = catalog.shells, catalog.layouts, catalog.columns
        self.kinds, self.current = catalog._kinds, catalog.current
        self.reference = Reference(self)
        self.may_name = not session._options.read_only
        self.cache_bytes = CACHE_BYTES
        self.cache = deque()

    # Identity

    cpdef Stored known(self, bytes id):
        """The session's object with that id, if there is one in memory."""
        ref = self._known.get(id)
        if ref is None:
            return None
        found = <object>PyWeakref_GetObject(ref)
        return None if found is None else <Stored>found

    cpdef know(self, Stored obj):
        """Remember an object by its id."""
        cdef object ref = PyWeakref_NewRef(obj, None)
        PyObject_GC_UnTrack(<PyObject *>ref)  # it refers to nothing: the collector need not look at thousands of them
        self._known[obj._k_key] = ref
        if len(self._known) > self.sweep_at:
            self._known = {id: ref for id, ref in self._known.items() if <object>PyWeakref_GetObject(ref) is not None}
            self.sweep_at = 2 * len(self._known) + 1024

    cpdef forget(self, bytes id):
        self._known.pop(id, None)

    def part_with(self, Stored obj not None):
        """Let no other object that was read refer to this one any more: what the id means is another object then."""
        others = [other for other in self.everyone() if holds(held_of(other).values(), obj)]
        for other in others:
            if other is not obj and (<Stored>other)._k_state != clean_:
                raise UsageError(f"{other!r} has changes, and refers to {obj!r}", hint="commit first")
        for other in others:
            if other is not obj:
                self.unload(<Stored>other)

    def everyone(self):
        """All objects in memory."""
        objects = [<object>PyWeakref_GetObject(ref) for ref in self._known.values()]
        return [obj for obj in objects if obj is not None]

    def __call__(self, bytes reference not None):
        """The object that a stored reference means, for the codec; it is read only when touched."""
        found = self.known(reference)
        return self.ghost(reference) if found is None else found

    cdef Stored ghost(self, bytes id):
        cdef Py_ssize_t number = hinted(id)
        cdef object shell = None
        if number < len(self.shells):
            shell = self.shells[number]
        if shell is None:
            shell = self.shell_for(id, number)
        return self.made(shell, id)

    def refuse_missing(self, obj):
        """Nothing is under the object's id."""
        raise NotImplementedError

    def row_key(self, bytes id not None):
        """The encoded key of an object's row."""
        return key_of_id(id)

    def id_of(self, bytes key not None):
        """The id that an encoded key is of."""
        return id_of_key(key)

    def shell_for(self, bytes id, Py_ssize_t number):
        """The shell of an object's class, where the id alone does not tell it."""
        raise NotImplementedError

    cdef Stored made(self, shell, bytes id):
        """An object that is not read yet."""
        cdef Stored obj = Stored.__new__(shell)
        obj._k_space, obj._k_key, obj._k_state, obj._k_awake = self, id, clean_, False
        self.know(obj)
        return obj

    # Loading

    cpdef wake(self, Stored obj):
        """Fill an object from the snapshot; after close() give back what was read before."""
        cdef object row
        if self.session._closed:
            if not obj._k_kept:
                raise ClosedError(
                    f"{obj!r} was not read before its session ended",
                    hint="read what is needed while the session is open",
                )
            rouse(obj)
            return
        self.loads += 1
        if self.loads_max is not None and self.loads > self.loads_max:
            raise UsageError(
                f"reading {obj!r} is one load more than was said there would be", hint="s.prefetch() what is needed"
            )
        row = self.lookup(key_of_id(obj._k_key))
        if row is None:
            self.refuse_missing(obj)
        self.awaken(obj, row)

    cpdef object lookup(self, bytes key):
        """A row of the snapshot, and remember that it was read."""
        cdef Session session = self.session
        cdef bint taken
        snapshot = session.begin()
        taken = session.take()
        try:
            if not session._read_only:
                if self.keys_epoch != session._epoch:
                    self.keys, self.keys_epoch = session.keys_read(self.table_name), session._epoch
                self.keys.add(key)
            return snapshot.get(self.table_name, key)
        finally:
            if taken:
                session._user = 0

    cdef awaken(self, Stored obj, row):
        if self._sent and self._sent.pop(obj._k_key, row.image) != row.image:
            obj._k_version = None  # the commit merged it with what another made of it
        if obj._k_kept and obj._k_version == row.version:
            rouse(obj)
        else:
            self.fill(obj, row.image, row.version)

    cpdef Stored read(self, bytes id, Row row):
        """The object of a row of the snapshot that was asked for, filled."""
        cdef Stored obj = self.known(id)
        if obj is None:
            obj = self.ghost(id)
        if not obj._k_awake:
            self.awaken(obj, row)
        return obj

    cpdef Stored item(self, bytes key, Row row):
        """The object of a row that a query found; None if the session deleted it."""
        cdef bytes id = id_of_key(key)
        cdef Stored obj = self.known(id)
        if obj is None:
            obj = self.ghost(id)
        elif obj._k_state != clean_:
            return None if obj._k_state == deleted_ else obj
        if not obj._k_awake:
            self.awaken(obj, row)
        return obj

    cpdef fill(self, Stored obj, bytes image, version):
        """Give an object the attributes of a packed row."""
        cdef Layout layout = self.layout_of(obj, image)
        if (<object>type(obj))._k_class is not layout.cls:  # which the object was not told rightly
            become(obj, shell_of(layout.cls))
        self.strip(obj)
        self.unpack(obj, image, layout)
        obj._k_layout, obj._k_version = layout, version
        obj._k_awake, obj._k_kept = True, False
        if type(obj) is not layout.cls:
            become(obj, layout.cls)
        self.hold(obj, PyBytes_GET_SIZE(image))
        if layout.watched:
            self.filled(obj)

    def filled(self, obj):
        """After an object was read, of a class that wants to know."""

    cdef hold(self, Stored obj, Py_ssize_t size):
        """Hold on to an object that was read, and let go of those read longest ago when there are too many."""
        cdef Stored oldest
        if obj._k_size == 0:  # else it is there already
            self.cache.append(obj)
        self.cached += size + OBJECT_BYTES - obj._k_size
        obj._k_size = size + OBJECT_BYTES
        while self.cached > self.cache_bytes and len(self.cache) > 1:
            oldest = self.cache.popleft()
            self.cached -= oldest._k_size
            oldest._k_size = 0
            if oldest._k_state == clean_ and oldest._k_awake and not is_shared(oldest):
                self.unload(oldest)

    cdef int strip(self, Stored obj) except -1:
        """Take the stored attributes of an object away; what was read out of it can't be changed any more."""
        cdef dict old = held_of(obj) if holds_any(obj) else None
        obj._k_late, obj._k_waiting = None, 0
        held_begin(obj)
        if old is None:
            return 0
        detach(old.values())
        for name, value in old.items():
            if is_own(<str>name):
                held_set(obj, name, value)
        return 0

    cdef Layout layout_of(self, Stored obj, bytes image):
        """What a row makes of an object: of the class that its id hints at, as nearly always, or another."""
        cdef Py_ssize_t number = hinted(obj._k_key)
        cdef Py_ssize_t size
        if number < len(self.layouts):
            found = self.layouts[number]
            if found is not None:
                size = PyBytes_GET_SIZE((<Layout>found).begin)
                if size <= PyBytes_GET_SIZE(image):
                    if memcmp(PyBytes_AS_STRING(image), PyBytes_AS_STRING((<Layout>found).begin), size) == 0:
                        return <Layout>found
        return self.layout_by_name(image)

    cdef Layout layout_by_name(self, bytes image):
        cdef Column column
        if not find_in(PyBytes_AS_STRING(image), PyBytes_GET_SIZE(image), &SCOPE_BYTE, 1, &column):
            raise CodecError("a row of an object names no class")
        cdef Py_ssize_t number = value_of(PyBytes_AS_STRING(image) + column.at, column.end - column.at, None)
        cdef object kind = self.kinds[number] if 0 <= number < len(self.kinds) else self._catalog.kind(number)
        if self.layouts[number] is None:
            self.layouts[number] = Layout(kind, self._catalog.name)
        return self.layouts[number]

    cdef int unpack(self, Stored obj, bytes image, Layout layout) except -1:
        """Give an object the attributes of a row; those that may wait, of one that has no changes, wait."""
        cdef const char *begin = PyBytes_AS_STRING(image)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(image), at = 0, missing = layout.initials
        cdef bint may_wait = obj._k_state == clean_
        cdef Column column
        cdef Slot slot
        while at < size:
            at = next_column(begin, size, at, &column)
            if is_scope(&column):
                continue
            slot = layout.slot(&column)
            missing -= slot.initial
            if slot.late and may_wait and column.at < column.end and <unsigned char>begin[column.at] >= FIRST_LATE:
                obj._k_waiting += 1
                continue
            value = value_of(begin + column.at, column.end - column.at, self)
            if slot.weak:
                value = self.strong(value)
            if type(value) in HOLDERS:
                value = tracked(value, obj)
            held_put(obj, slot.name, value, &slot.place)
        if obj._k_waiting:
            obj._k_late = image
        if missing > 0:  # stored before the attribute was declared
            self.put_initial(obj, layout)
        return 0

    cdef int put_initial(self, Stored obj, Layout layout) except -1:
        """Give an object the defaults of what its row lacks."""
        cdef Column column
        for name, default, factory in layout.cls._k_initial:
            if held_get(obj, name) is not NULL:
                continue
            if obj._k_late is not None:
                stored = self.columns.get(layout.cls._k_stored.get(name, name))
                if stored is not None and has_column(obj._k_late, (<str>stored).encode()):
                    continue
            held_set(obj, name, default if factory is None else tracked(factory(), obj))
        return 0

    def settle_changed(self, version):
        """All changes are in the commit of that number."""
        cdef Stored obj
        for id, item in self._changed.items():
            obj = <Stored>item
            if obj._k_state == deleted_:
                self.forget(id)
            else:
                obj._k_state, obj._k_version = clean_, version
        self._changed.clear()

    def sleep(self):
        """The snapshot is over: each object reads the new one when it is touched."""
        cdef dict shells = {}  # asked of each class once: there are as many objects as were ever read
        cdef PyObject *shell
        cdef Stored obj
        self.epoch += 1
        for ref in self._known.values():
            found = <object>PyWeakref_GetObject(ref)
            if found is not None:
                obj = <Stored>found
                if obj._k_awake:
                    obj._k_awake, obj._k_kept = False, True
                    cls = <object>type(obj)
                    shell = PyDict_GetItemWithError(shells, cls)
                    if shell is NULL:
                        shells[cls] = shell_of(cls._k_class)
                        shell = PyDict_GetItemWithError(shells, cls)
                    if shell is not <PyObject *>cls:
                        become(obj, <object>shell)

    cdef put_to_sleep(self, Stored obj):
        obj._k_awake, obj._k_kept = False, True
        cls = (<object>type(obj))._k_class
        if type(obj) is cls:
            become(obj, shell_of(cls))

    cpdef uncache(self):
        """Hold on to nothing that nobody else does."""
        for obj in self.cache:
            (<Stored>obj)._k_size = 0
        self.cache.clear()
        self.cached = 0

    cpdef unload(self, Stored obj):
        """Let an object be read again when it is touched."""
        self.strip(obj)
        self.put_to_sleep(obj)
        obj._k_kept = False

    # Changing

    cpdef add_under(self, bytes id, Stored obj):
        """Add a transient object under an id; one that this session deleted there gives way."""
        cdef Stored deleted
        self._session._require_writable()
        self._session._begin()
        deleted = self._changed.get(id)
        if deleted is not None:
            obj._k_version = deleted._k_version
        obj._k_space, obj._k_key, obj._k_given = self, id, None
        obj._k_state = new_ if obj._k_version is None else dirty_
        cdef list late = None
        for name, value in attributes_of(obj).items():
            if type(value) in HOLDERS:
                if not is_own(<str>name):
                    held_set(obj, name, tracked(value, obj))
            elif isinstance(value, Stored) and is_late(<Stored>value):
                late = late or []
                late.append(value)
        self.know(obj)
        self._changed[id] = obj
        for value in late or ():
            self.reached(<Stored>value)

    cpdef touch(self, Stored obj):
        """Before a change of an object."""
        self._session._require_writable()
        if obj._k_state == deleted_:
            raise UsageError(f"{obj!r} is deleted")
        if not obj._k_awake:
            self.wake(obj)
        if obj._k_state == clean_:
            self._session._begin()
            complete(obj)
            obj._k_state = dirty_
            self._changed[obj._k_key] = obj

    def weakened(self, value):
        """What is stored of a weak reference, or of a container of them."""
        raise NotImplementedError

    def strong(self, value):
        """The objects that are there of those that a stored weak reference, or a container of them, means."""
        raise NotImplementedError

    cpdef reached(self, Stored obj):
        """An object that is being packed refers to this one."""
        if obj._k_space is not self or obj._k_state != deleted_:
            self.add(obj)

    cpdef add(self, Stored obj):
        """Give a transient object an id; what it refers to follows at the commit."""
        if obj._k_space is self and obj._k_state != deleted_:
            return
        if obj._k_space is not None:
            self.refuse_foreign(obj)
        if obj._k_state == detached_:
            raise UsageError(f"{obj!r} is stored, and detached", hint="s.merge() gives this session's own")
        self._session._require_writable()
        cls = (<object>type(obj))._k_class
        kind = self.current.get(cls)
        if kind is None:
            kind = self._catalog.kind_of(None, cls)
        self.add_under(new_id(kind.number), obj)
        if cls._k_added is not None:
            obj._k_added()

    def refuse_foreign(self, obj):
        """The object is of another session, or deleted."""
        raise NotImplementedError

    def packed(self, list objects not None):
        """The rows of objects by key, None for those that are deleted; what they refer to is added on the way."""
        cdef dict found = {}
        cdef Stored obj
        for item in objects:
            obj = <Stored>item
            if obj._k_state != deleted_:
                found[key_of_id(obj._k_key)] = self.pack(obj)
            elif obj._k_version is not None:
                found[key_of_id(obj._k_key)] = None
        return found

    cpdef bytes pack(self, Stored obj):
        """The object as a row; what it refers to is added on the way."""
        cdef dict columns = {}, stored = self.columns
        complete(obj)
        cdef object cls = (<object>type(obj))._k_class
        cdef object kind = self.current.get(cls)
        if kind is None or (obj._k_layout is not None and obj._k_layout.kind is not kind):
            kind = self._catalog.kind_of(obj._k_kind, cls, add=self.may_name)
        cdef object transient = cls._k_transient, names = cls._k_stored, weak = cls._k_weak
        cdef Py_ssize_t at = 0
        cdef PyObject *held_name
        cdef PyObject *held_value
        while held_next(obj, &at, &held_name, &held_value):
            name, value = <object>held_name, <object>held_value
            if is_own(<str>name) or name in transient:
                continue
            if weak and name in weak:
                value = self.weakened(value)
            if names:
                name = names.get(name, name)
            column = stored.get(name)
            if column is None:
                column = self._catalog.column(name, attributes_of(obj)) if self.may_name else UNSTORED + name
            columns[column] = value
        try:
            return kind.column + encode_row(columns, self.reference)
        except CodecError:
            try:
                encode_row({self._catalog.names.get(c, c): v for c, v in columns.items()}, self.reference)  # tells where it is by names that people know
            except CodecError as error:
                raise error.of(cls.__name__) from error
            raise

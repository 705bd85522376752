"""The methods by name. A method has the views that the teacher sees (`teacher_views`), the views of
each pass of a student (`passes`), `prepare`, `loss` and `finish_step`; `last_norm` as `net.Net`."""

from .byol import Byol
from .densecl import DenseCl
from .moco import Moco, Queue
from .ressl import ReSsl


def make(name, constants, queues):
    """A method with the constants of a dump; `queues`: rows by name, and pointers `NAME.pointer`."""
    number = lambda key: float(constants[key])
    queue = lambda name: Queue(queues[name].clone(), int(constants.get(f"pointer.{name}", 0)))
    if name == "byol":
        return Byol()
    if name == "ressl":
        return ReSsl(queue("queue"), number("tau_teacher"), number("tau_student"))
    if name == "densecl":
        weight = number("dense_weight")
        return DenseCl(queue("queue"), queue("queue_dense"), number("tau"), weight)
    return Moco(queue("queue"), number("tau"))

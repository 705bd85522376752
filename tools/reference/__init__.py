"""The PyTorch reference: supernet, self-supervised methods, training step, and replay of a step that
`engine train --dump-steps` wrote. It makes fixtures, checks dumps and exports, and is what
benches/peers times, so that whatever is fast there is also what is checked here.

    net.py        the elastic ResNet: its spaces, its parameters, its subnets
    pretrain.py   Algorithm 1 over a method: teacher, students, optimizer
    methods.py    what a method is, and the list of them
    moco.py       MoCo v2; byol.py, ressl.py and densecl.py likewise
    lars.py       the optimizer of BYOL
    replay.py     a dumped step, computed again
    relation.py   the score of a subnet's feature maps
    philox.py     the permutation of the teacher's batch
    errors.py     how far tensors are from what is expected
"""

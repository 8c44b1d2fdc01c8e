"""Raghu, Raghu, Bengio & Vinyals, "Rapid Learning or Feature Reuse? Towards Understanding
the Effectiveness of MAML", ICLR 2020: ANIL.

No official code was found; the nets and the steps are those of Finn et al. 2017.
"""

from tinymaml.published.work import Published, Work, of_paper, part, settings


AS_FINN = "as in Finn et al. 2017, section 5.2"
OF_ALL = (
    of_paper("rates", "fixed", "section 4"),
    of_paper("order", "exact", "section 4"),
    of_paper("inner_steps", 5),
    of_paper("beta", 1e-3),
    of_paper("iterations", 30000),
    of_paper("activation", "relu", AS_FINN),
)
OMNIGLOT = part(
    *OF_ALL,
    of_paper("alpha", 0.1),
    of_paper("tasks", 16),
    of_paper("test_steps", 5, "as in Finn et al. 2017, appendix A.1"),
    of_paper("net", "conv", AS_FINN),
    of_paper("filters", 64, AS_FINN),
)
MINI = (
    part(
        *OF_ALL,
        of_paper("alpha", 0.01),
        of_paper("test_steps", 10, "as in Finn et al. 2017, appendix A.1"),
        of_paper("net", "pooled", AS_FINN),
        of_paper("filters", 32, AS_FINN),
        of_paper("queries", 15, "as in Finn et al. 2017, appendix A.1"),
    ),
    part(of_paper("tasks", 4), shots=1),
    part(of_paper("tasks", 2), shots=5),
)

JOINT = "learn2learn's ANIL normalises support and query together (anil_fc100.py:37)"
SEEDS = "figures are means and standard deviations over three seeds"
NIL = "NIL, a test without a head, is no option of a training"
ANIL = ("anil",)
RAGHU2020 = Work(
    name="raghu2020",
    title="Raghu et al. 2020",
    code="not found",
    experiments={
        "omniglot": Published(
            settings(algorithm=ANIL, ways=(20,), shots=(1, 5)),
            (OMNIGLOT,),
            notes=(JOINT,),
            missing=(SEEDS, NIL),
        ),
        "miniimagenet": Published(
            settings(algorithm=ANIL, ways=(5,), shots=(1, 5)),
            MINI,
            notes=(JOINT,),
            missing=(SEEDS, NIL),
        ),
    },
)

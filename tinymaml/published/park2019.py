"""Park & Oliva, "Meta-Curvature", NeurIPS 2019. The official code of sine curves and
Omniglot is silverbottlep/maml: cbfinn/maml with a flag --mc. That of mini-ImageNet was not
published.
"""

from tinymaml.published.work import Published, Work, of_code, part, settings


README = "README.md, flags with --mc"
OF_ALL = (
    of_code("rates", "fixed", "maml.py:78-115: a fixed rate in front"),
    of_code("adapts", "all", "maml.py:78-115"),
    of_code("order", "exact", "main.py: stop_grad is off (from memory)"),
    of_code("inner_steps", 1, README),
)
SINE = part(*OF_ALL, of_code("iterations", 70000, README))
OMNIGLOT = part(
    *OF_ALL,
    of_code("iterations", 60000, README),
    of_code("tasks", 32, README),
    of_code("alpha", 0.4, README),
)

AS_FINN = "all else is Finn et al. 2017's (--preset finn2017-code has it for MAML)"
CURVATURE = ("meta-curvature",)
PARK2019 = Work(
    name="park2019",
    title="Park & Oliva 2019",
    code="silverbottlep/maml e9ce654",
    experiments={
        "sine": Published(settings(algorithm=CURVATURE), (SINE,), missing=(AS_FINN,)),
        "omniglot": Published(
            settings(algorithm=CURVATURE, ways=(5, 20), shots=(1,)),
            (OMNIGLOT,),
            missing=(AS_FINN,),
        ),
    },
)

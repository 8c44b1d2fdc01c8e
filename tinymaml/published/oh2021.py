"""Oh, Yoo, Kim & Yun, "BOIL: Towards Representation Change for Few-shot Learning", ICLR
2021. The official code is jhoon-oh/BOIL.
"""

from tinymaml.published.work import Published, Row, Work, of_code, part, settings


BODY = "section 3: the head's step size is 0"
HALF = "main.py, extractor_step_size; classifier_step_size is 0"
MINI = part(
    Row("rates", "fixed", BODY, "fixed", HALF),
    of_code("order", "exact", "main.py, first_order is off"),
    of_code("alpha", 0.5, HALF),
    of_code("inner_steps", 1, "main.py, inner_update_num"),
    of_code("test_steps", 1, "main.py, inner_update_num"),
    of_code("iterations", 30000, "main.py: batch_iter 300 of train_batches 100"),
    of_code("tasks", 4, "main.py, batch_size"),
    of_code("queries", 15, "maml/utils.py, test_shots"),
    of_code("test_queries", 0, "maml/utils.py, test_shots"),
    of_code("outer", "adam", "main.py, torch.optim.Adam"),
    of_code("beta", 1e-3, "main.py, meta_lr"),
    of_code("clip", 0.0, "not in the code"),
    of_code("net", "pooled", "maml/model.py, MaxPool2d"),
    of_code("filters", 64, "main.py, hidden_size"),
    of_code("activation", "relu", "maml/model.py, ReLU"),
    of_code("norm_scale", True, "maml/model.py, MetaBatchNorm2d"),
    of_code("adapt_norm", True, "maml/model.py:17, MetaBatchNorm2d"),
    of_code("norm_eps", 1e-5, "maml/model.py: PyTorch's default (from memory)"),
    of_code("inner_loss", "mean", "main.py, F.cross_entropy"),
    of_code("outer_loss", "mean", "main.py, F.cross_entropy"),
    of_code("validate_every", 100, "main.py, after train_batches"),
    of_code("validation_tasks", 100, "main.py: valid_batches 25 of 4"),
    of_code("test_tasks", 1000, "analysis.ipynb; main.py has 2500 batches of 4"),
)

OH2021 = Work(
    name="oh2021",
    title="Oh et al. 2021",
    code="jhoon-oh/BOIL 437e9a0",
    experiments={
        "miniimagenet": Published(
            settings(algorithm=("boil",), ways=(5,), shots=(1, 5)),
            (MINI,),
            notes=("main.py tests the last theta, analysis.ipynb the best on validation",),
            dead=(
                "--ortho-init calls a function that is not defined (main.py:209)",
                "the models 4conv_2fc and WarpedConvNet cannot be chosen",
            ),
            missing=(
                "Adam is made anew every 100 iterations, which forgets its moments"
                " (main.py:61-67, :218-220)",
                "first weights are PyTorch's defaults (from memory), here Glorot's",
                "figures are means over 5 repeats of the test",
            ),
        )
    },
)

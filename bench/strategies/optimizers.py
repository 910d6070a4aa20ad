"""Other optimisers than Adam on lists of tensors."""

from bench.strategies.strategy import Strategy

SGD = Strategy("sgd", "gradient descent: no state", {"training": {"optimizer": "sgd"}})
ADAM_ONE_BY_ONE = Strategy(
    "adam-one-by-one", "Adam, one tensor after the other", {"training": {"optimizer": "adam-one-by-one"}}
)
ADAFACTOR = Strategy("adafactor", "Adafactor: state of rows and columns", {"training": {"optimizer": "adafactor"}})

from tridex.serving.tokenizer import TokenizerService
from tridex.serving.triton import python_model

TritonPythonModel = python_model(TokenizerService)

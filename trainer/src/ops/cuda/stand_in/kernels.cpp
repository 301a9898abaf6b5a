// Our kernels, for the stand-in driver.
#include "../conv.cu"
#include "../descent.cu"
#include "../norm.cu"
#include "../pixels.cu"
#include "../pool.cu"

# Included by llama.cpp's project() call: install_engine.py passes it as CMAKE_PROJECT_llama_cpp_INCLUDE.
# llama-cpp-python forces LLAMA_BUILD_COMMON into CMake's cache, yet loads nothing of that library, and it is
# half of the compiling. A normal variable stands before the cache entry (policies CMP0077, CMP0126).
set(LLAMA_BUILD_COMMON OFF)

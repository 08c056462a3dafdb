# Compiles FILE with MACRO defined and fails unless the result is as expected: without MACRO it compiles, with it the compiler
# refuses and its output matches REGEX.
separate_arguments(flags UNIX_COMMAND "${FLAGS}")
set(define "")
if(MACRO)
  set(define "-D${MACRO}")
endif()
execute_process(COMMAND "${CMAKE_COMMAND}" -E env LC_ALL=C "${COMPILER}" ${flags} ${define} "-I${INCLUDE}" "${FILE}"
                RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT MACRO)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${FILE} must compile, but:\n${output}")
  endif()
elseif(result EQUAL 0)
  message(FATAL_ERROR "${FILE} compiles with ${MACRO}; this mistake must be refused")
elseif(NOT output MATCHES "${REGEX}")
  message(FATAL_ERROR "${FILE} with ${MACRO} is refused, but not with '${REGEX}':\n${output}")
endif()

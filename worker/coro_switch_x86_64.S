/* The stack switch on x86-64, System V psABI 1.0: rbx, rbp, r12-r15, the control bits of
 * MXCSR and the x87 control word belong to the caller. */
#if defined(__x86_64__) && !defined(CORO_UCONTEXT)
        .text

/* void coro_switch(void **ret_save_sp, void *load_sp)
 * Both stacks hold the same frame, so one CFI description fits before and after. */
        .globl  coro_switch
        .hidden coro_switch
        .type   coro_switch, @function
        .p2align 4
coro_switch:
        .cfi_startproc
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbp, 0
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbx, 0
        pushq   %r12
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r12, 0
        pushq   %r13
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r13, 0
        pushq   %r14
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r14, 0
        pushq   %r15
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r15, 0
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        stmxcsr (%rsp)
        fnstcw  4(%rsp)

        movq    %rsp, (%rdi)
        movq    %rsi, %rsp

        ldmxcsr (%rsp)
        fldcw   4(%rsp)
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        popq    %r15
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r15
        popq    %r14
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r14
        popq    %r13
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r13
        popq    %r12
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r12
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbx
        popq    %rbp
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbp
        ret
        .cfi_endproc
        .size   coro_switch, . - coro_switch

/* Where a new stack begins: r12 = function, r13 = its argument. The return address is
 * undefined, so that unwinders stop here. The function never returns. */
        .globl  coro_trampoline
        .hidden coro_trampoline
        .type   coro_trampoline, @function
        .p2align 4
coro_trampoline:
        .cfi_startproc
        .cfi_undefined %rip
        xorl    %ebp, %ebp
        movq    %r13, %rdi
        callq   *%r12
        ud2
        .cfi_endproc
        .size   coro_trampoline, . - coro_trampoline
#endif
        .section .note.GNU-stack, "", @progbits

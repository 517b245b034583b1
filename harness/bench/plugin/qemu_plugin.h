/*
 * The part of QEMU's plugin interface that is used here, as QEMU 7.2 has it (docs/devel/tcg-plugins.rst
 * describes it). Distributions do not package its header, so the few names are declared again.
 */
#ifndef QEMU_PLUGIN_PART_H
#define QEMU_PLUGIN_PART_H

#include <stddef.h>
#include <stdint.h>

#define EXPORTED __attribute__((visibility("default")))

/* The interface's version; QEMU 7.2 refuses a plugin that says another one than 0 or 1. */
#define PLUGIN_INTERFACE 1

typedef uint64_t plugin_id;
struct plugin_block;	   /* a translated block */
struct plugin_instruction; /* one instruction of it */
struct plugin_machine;	   /* about the machine; not looked at */

enum plugin_registers { REGISTERS_UNTOUCHED = 0 };
enum plugin_inline { INLINE_ADD_U64 = 0 };

typedef void (*on_translation)(plugin_id id, struct plugin_block *block);
typedef void (*on_execution)(unsigned int vcpu, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, on_translation callback);
void qemu_plugin_register_vcpu_insn_exec_cb(struct plugin_instruction *instruction, on_execution callback,
					    enum plugin_registers registers, void *data);
void qemu_plugin_register_vcpu_insn_exec_inline(struct plugin_instruction *instruction,
						enum plugin_inline operation, void *number, uint64_t operand);
size_t qemu_plugin_tb_n_insns(const struct plugin_block *block);
struct plugin_instruction *qemu_plugin_tb_get_insn(const struct plugin_block *block, size_t index);
const void *qemu_plugin_insn_data(const struct plugin_instruction *instruction);
uint64_t qemu_plugin_insn_vaddr(const struct plugin_instruction *instruction);

#endif
